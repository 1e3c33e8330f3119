"""A chat template tried on a few words in a process of its own: whether it writes without end.

Jinja's sandbox bounds what a template may touch, and not how much it builds: `'x' * 10**10` or two nested loops take
all of a machine's memory or time. In a process of its own both have a limit. Cost: about 0.2 s a template, once.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from functools import lru_cache

from samplewise.core.errors import SamplewiseError

logger = logging.getLogger("samplewise")

MOST = 2**24  # characters of a conversation of a few words; templates with long preambles write some 2**14
MEMORY, SECONDS, PATIENCE = 2**30, 10, 120  # bytes, of its processor, of the clock on a machine that is busy

_CODE = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
except (ImportError, ValueError, OSError):
    pass  # not on every system: there the clock alone has a limit
from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
class Generation(Extension):
    tags = {"generation"}
    def parse(self, parser):
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True)).set_lineno(line)
def raise_exception(message):
    raise TemplateError(message)
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
env.filters["tojson"] = lambda x, **options: json.dumps(x, **{k: v for k, v in options.items() if k == "indent"})
env.globals.update(raise_exception=raise_exception, strftime_now=lambda form: form)
try:
    template = env.from_string(json.load(sys.stdin))  # works out constants already
except MemoryError:
    sys.exit(3)
except Exception:
    sys.exit(0)
said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}] * 2
tools = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}]
for messages in (said[:2], said, [{"role": "system", "content": "Hi"}, *said]):
    for given in (None, tools):
        for prompt in (False, True):
            size = 0
            try:
                for part in template.generate(
                    messages=messages, tools=given, add_generation_prompt=prompt, bos_token="", eos_token=""
                ):
                    size += len(part)
                    if size > MOST:
                        sys.exit(3)
            except MemoryError:
                sys.exit(3)
            except Exception:
                pass  # what it refuses is said where rows are rendered
"""


@lru_cache(maxsize=256)
def check_size(template: str) -> None:
    """Errors: SamplewiseError for a template that takes more than the limits for a conversation of a few words."""
    code = f"MOST, MEMORY, SECONDS = {MOST}, {MEMORY}, {SECONDS}\n{_CODE}"
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code], input=json.dumps(template), text=True, encoding="utf-8",
            capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        endless = done.returncode == 3 or done.returncode < 0 or "MemoryError" in done.stderr
    except subprocess.TimeoutExpired:
        endless = True
    except OSError as error:
        logger.warning("the chat template was not tried for its size: no process can be started (%s)", error)
        return
    if endless:
        raise SamplewiseError(
            "chat_template", expected=f"a template that writes at most {MOST:,} characters of a few words",
            got=f"one that takes more than those, {MEMORY // 2**20} MiB or {SECONDS} s", remedy="Fix the template.",
        )  # fmt: skip
