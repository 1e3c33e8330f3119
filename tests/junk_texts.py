"""Clean texts of several kinds, written for the tests of what is junk."""

PROSE = (
    "The house stood at the end of a long road, and nobody had lived there since the winter of the great storm. When "
    "the "
    "children asked about it, their mother said that it belonged to a man who had gone to sea. They never saw a "
    "light in "
    "the windows, but every spring the garden was full of flowers. In the evening they would walk along the fence and "
    "listen to the wind in the old trees, and sometimes they thought that they heard a voice. It was many years before "
    "they learned what had happened to the captain and his ship."
)
CLEAN = {
    "English": PROSE,
    "German": "Das Haus stand am Ende einer langen Straße, und seit dem Winter des großen Sturms hatte dort niemand "
    "mehr "
    "gewohnt. Wenn die Kinder danach fragten, sagte ihre Mutter, es gehöre einem Mann, der zur See gefahren sei. Sie "
    "sahen "
    "nie ein Licht in den Fenstern, aber in jedem Frühling war der Garten voller Blumen, und abends gingen sie am Zaun "
    "entlang und hörten dem Wind zu.",
    "French": "La maison se trouvait au bout d'une longue route, et personne n'y avait habité depuis l'hiver de la "
    "grande "
    "tempête. Quand les enfants posaient des questions, leur mère disait qu'elle appartenait à un homme parti en "
    "mer. Ils "
    "ne voyaient jamais de lumière aux fenêtres, mais chaque printemps le jardin était plein de fleurs.",
    "Russian": "Дом стоял в конце длинной дороги, и никто не жил там с той зимы, когда была большая буря. Когда дети "
    "спрашивали о нём, мать отвечала, что он принадлежит человеку, который ушёл в море. Они никогда не видели света в "
    "окнах, но каждую весну сад был полон цветов, а по вечерам они гуляли вдоль забора и слушали ветер.",
    "Japanese": "その家は長い道の終わりに建っていて、大きな嵐の冬から誰も住んでいなかった。子供たちがたずねると、母は"
    "海に"
    "出た男の家だと答えた。窓に明かりが見えたことは一度もなかったが、春になると庭は花でいっぱいになった。夕方になると、"
    "彼らは柵に沿って歩き、古い木々の間を吹く風の音を聞いた。",
    "Python": "def area(points):\n    total = 0.0\n    for i, (x, y) in enumerate(points):\n        a, b = points[i "
    "- 1]\n"
    "        total += a * y - x * b\n    return abs(total) / 2\n\n\nclass Polygon:\n    def __init__(self, points):\n"
    "        self.points = list(points)\n\n    def __repr__(self):\n        return f'Polygon({self.points!r})'\n",
    "LaTeX": "\\begin{theorem}\nLet $f\\colon X \\to Y$ be continuous and let $K \\subset X$ be compact. Then $f(K)$ "
    "is "
    "compact.\n\\end{theorem}\n\\begin{proof}\nLet $(U_i)_{i \\in I}$ be an open cover of $f(K)$. The sets "
    "$f^{-1}(U_i)$ "
    "are open and cover $K$, so that finitely many of them suffice. \\qedhere\n\\end{proof}\n",
}
