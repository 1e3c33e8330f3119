"use strict";
(() => {
  // All text goes in as textContent: nothing of the data is ever read as markup.
  const tip = document.getElementById("tip");

  function show(x, y, head, text) {
    const bold = document.createElement("b");
    bold.textContent = head;
    tip.replaceChildren(bold, text.length > 700 ? text.slice(0, 700) + "…" : text);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, x + 14), innerWidth - box.width - 8);
    const top = y + 18 + box.height < innerHeight ? y + 18 : Math.max(8, y - box.height - 12);
    tip.style.left = left + "px";
    tip.style.top = top + "px";
  }
  const hide = () => { tip.hidden = true; };

  function contents() {
    const links = [...document.querySelectorAll("main section[id] > h2")].map((heading, place) => {
      const link = document.createElement("a");
      heading.parentElement.id = `s${place + 1}-${heading.parentElement.id}`;
      link.href = "#" + heading.parentElement.id;
      link.textContent = heading.textContent;
      return link;
    });
    if (links.length > 2) document.getElementById("contents").replaceChildren(...links);
  }

  function hoverMarks() {
    document.addEventListener("pointerover", (event) => {
      const mark = event.target.closest?.("[data-tip]");
      if (mark) show(event.clientX, event.clientY, mark.dataset.tip, "");
    });
    document.addEventListener("pointerout", (event) => {
      if (event.target.closest?.("[data-tip]")) hide();
    });
    addEventListener("scroll", hide, { passive: true });
  }

  function scatter(plot) {
    const area = plot.querySelector(".area");
    const data = JSON.parse(plot.querySelector('script[type="application/json"]').textContent);
    const dots = [...area.querySelectorAll(".point")];
    const words = data.text.map((text, i) => (data.names[data.group[i]] + "\n" + text).toLowerCase());
    const shown = dots.map(() => true);
    const order = dots.map((_, i) => i).sort((a, b) => data.x[a] - data.x[b]);
    let current = -1;

    function mark(i, x, y) {
      dots[current]?.classList.remove("on");
      current = i;
      if (i < 0) return hide();
      dots[i].classList.add("on");
      const name = data.names[data.group[i]];
      show(x, y, data.head[i] + (name ? "\n" + name : ""), data.text[i]);
    }
    function nearest(x, y, width) {
      let best = -1, least = 24 * 24;
      for (let i = 0; i < dots.length; i++) {
        const dx = data.x[i] * width - x, dy = data.y[i] - y, far = dx * dx + dy * dy;
        if (shown[i] && far < least) { least = far; best = i; }
      }
      return best;
    }
    function point(event) {
      const box = area.getBoundingClientRect();
      mark(nearest(event.clientX - box.left, event.clientY - box.top, box.width), event.clientX, event.clientY);
    }
    function step(event) {
      const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!way) return;
      event.preventDefault();
      const visible = order.filter((i) => shown[i]);
      const next = visible[(visible.indexOf(current) + way + visible.length) % visible.length] ?? -1;
      const box = area.getBoundingClientRect();
      mark(next, box.left + (data.x[next] ?? 0) * box.width, box.top + (data.y[next] ?? 0));
    }
    area.setAttribute("tabindex", "0");
    area.addEventListener("pointermove", point);
    area.addEventListener("pointerdown", point);
    area.addEventListener("pointerleave", () => mark(-1));
    area.addEventListener("blur", () => mark(-1));
    area.addEventListener("keydown", step);

    filterable(plot.closest(".filtered"), (wanted, group) => {
      let count = 0;
      mark(-1);
      dots.forEach((dot, i) => {
        shown[i] = words[i].includes(wanted) && (group === "" || data.group[i] === Number(group));
        dot.classList.toggle("off", !shown[i]);
        count += shown[i];
      });
      return count;
    });
  }

  function sheet(box) {
    const body = box.querySelector("tbody");
    const rows = [...body.rows];
    const words = rows.map((row) => row.textContent.toLowerCase());
    filterable(box, (wanted) => {
      rows.forEach((row, i) => { row.hidden = !words[i].includes(wanted); });
      return rows.filter((row) => !row.hidden).length;
    });
    [...box.querySelectorAll("th")].forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        const number = heading.classList.contains("number");
        const rising = heading.getAttribute("aria-sort") ? heading.ariaSort !== "ascending" : !number;
        box.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
        body.append(...rows.toSorted((a, b) => {
          const [s, t] = rising ? [a.cells[column], b.cells[column]] : [b.cells[column], a.cells[column]];
          if (!number) return s.textContent.localeCompare(t.textContent);
          return Number(s.dataset.value ?? NaN) - Number(t.dataset.value ?? NaN) || 0;
        }));
      });
    });
  }

  function filterable(box, apply) {
    const search = box.querySelector(".search"), pick = box.querySelector(".pick"), output = box.querySelector("output");
    const run = () => {
      const count = apply((search?.value ?? "").toLowerCase(), pick?.value ?? "");
      if (output) output.textContent = count.toLocaleString("en") + " shown";
    };
    search?.addEventListener("input", run);
    pick?.addEventListener("change", run);
  }

  contents();
  hoverMarks();
  document.querySelectorAll(".scatter").forEach(scatter);
  document.querySelectorAll(".sheet").forEach(sheet);
})();
