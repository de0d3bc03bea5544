"""The look of every page that diffeo writes: one style sheet, light and dark, on screens of any width and on paper."""

from __future__ import annotations

# Colours carry lightness first, so that figures survive printing in grey: A is dark where B is light, and the marks
# of the two differ in shape as well.
STYLE = """
:root{color-scheme:light dark;--paper:#fdfdfb;--ink:#1b1d21;--muted:#5a606a;--rule:#d8d7d0;--panel:#f3f2ec;
--a:#1b4f8f;--b:#b3540c;--bad:#8c1d18;--good:#1d6b45;--pale:#c9c8c0;--lost:#e3cfa4;--zone:#eaf0ea}
@media (prefers-color-scheme:dark){:root{--paper:#15171b;--ink:#e9e7e2;--muted:#a5aab3;--rule:#3a3e45;--panel:#1f2328;
--a:#8fbcf2;--b:#f0a766;--bad:#ff9d94;--good:#8fd3ae;--pale:#4b5058;--lost:#5c4a20;--zone:#1d2a22}
.tint{filter:brightness(1.45)}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--muted:#444;--rule:#bbb;--panel:#f6f6f4;
--a:#1b4f8f;--b:#b3540c;--bad:#8c1d18;--good:#1d6b45;--pale:#c9c8c0;--lost:#e3cfa4;--zone:#eaf0ea}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{font:1.0625rem/1.6 Charter,"Bitstream Charter","Source Serif 4","Iowan Old Style",Georgia,serif;color:var(--ink);
background:var(--paper);margin:0;overflow-wrap:break-word}
body>h1{padding-top:2rem}
.skip{position:absolute;left:-99rem;top:0;background:var(--ink);color:var(--paper);padding:.5rem 1rem;z-index:1}
.skip:focus{left:0}
a{color:var(--a)}a:focus-visible,summary:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--b);outline-offset:3px}
header,main,footer,body>section,body>h1,body>p{max-width:60rem;margin-inline:auto;padding-inline:1.1rem}
header{padding-top:3rem}
h1,h2,h3,th,.over,.marks,nav,svg text,.facts dt{font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:clamp(1.75rem,1.2rem + 2.6vw,2.7rem);line-height:1.14;letter-spacing:-.015em;margin:.4rem 0 1rem;font-weight:650;
text-wrap:balance}
h2{font-size:1.3rem;line-height:1.25;margin:0 0 .6rem;font-weight:620}
section{padding-top:1.6rem;margin-top:2.2rem}
main>section{border-top:1px solid var(--rule)}
p,ul,ol{max-width:42rem;margin:.6rem 0}
.over{text-transform:uppercase;letter-spacing:.09em;font-size:.78rem;color:var(--muted);margin:0}
.lead{font-size:1.22rem;line-height:1.5}
.muted,figcaption{color:var(--muted)}
figure{margin:1.2rem 0 .4rem;max-width:34rem}
figcaption{font-size:.9rem;line-height:1.45;margin-top:.4rem}
svg{display:block;width:100%;height:auto;overflow:visible}
.pair{display:grid;gap:0 2.2rem;grid-template-columns:repeat(auto-fit,minmax(min(18rem,100%),1fr));align-items:start}
.verdict{display:grid;gap:1rem 2rem;grid-template-columns:minmax(0,1fr) auto;align-items:center}
.verdict svg{width:min(13rem,60vw)}
@media (max-width:40rem){.verdict{grid-template-columns:1fr}header{padding-top:1.6rem}body{font-size:1rem}}
table{border-collapse:collapse;font-size:.95rem;width:100%;max-width:46rem;margin:1rem 0}
caption{text-align:left;color:var(--muted);font-size:.9rem;padding-bottom:.4rem;max-width:42rem}
th,td{text-align:left;padding:.34rem .9rem .34rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
thead th{font-size:.82rem;color:var(--muted);font-weight:550}tbody th{font-weight:550}
tbody tr.own th,tbody tr.own td{font-weight:700}
.words{min-width:9rem}
.num{font-variant-numeric:tabular-nums;white-space:nowrap}
.bar{display:block;height:.42rem;background:var(--panel);border:1px solid var(--rule);margin-top:.2rem;min-width:3.4rem;
max-width:9rem}
.bar i{display:block;height:100%;background:var(--muted)}.own .bar i{background:var(--ink)}
.scroll{overflow-x:auto}dd,pre,.flag{overflow-wrap:anywhere}
pre{background:var(--panel);padding:.9rem 1rem;white-space:pre-wrap;
font:.84rem/1.5 ui-monospace,"SF Mono",Menlo,Consolas,monospace;border-left:3px solid var(--rule)}
.facts{display:grid;grid-template-columns:minmax(7rem,auto) minmax(0,1fr);gap:.25rem 1.2rem;font-size:.92rem;max-width:46rem}
.facts dt{color:var(--muted);font-size:.86rem}.facts dd{margin:0;font-variant-numeric:tabular-nums}
.flag{border-left:4px solid var(--bad);padding:.1rem 0 .1rem .9rem;margin:.7rem 0;max-width:42rem}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;padding:0;margin:1.4rem 0 0;list-style:none;font-size:.88rem;max-width:none}
footer{padding-block:2rem 3rem;margin-top:2.5rem;border-top:1px solid var(--rule);color:var(--muted);font-size:.9rem}
img{max-width:100%;height:auto;border:1px solid var(--rule);background:#fff}
svg text{font-size:11px;fill:var(--ink)}svg .t{fill:var(--muted)}
svg .s{font-size:10px;fill:var(--muted)}svg .h{font-weight:650}
svg .o{paint-order:stroke;stroke:var(--paper);stroke-width:3px}
.line{stroke:var(--muted);fill:none;stroke-width:1}.grid{stroke:var(--rule);fill:none;stroke-width:1}
.dot{fill:none;stroke-linecap:round}.fa{fill:var(--a)}.fb{fill:var(--b)}.sa{stroke:var(--a)}.sb{stroke:var(--b)}
.ink{stroke:var(--ink);fill:none}.fi{fill:var(--ink)}.halo{stroke:var(--paper);fill:none}.fp{fill:var(--paper)}
.pale{stroke:var(--pale)}.lost{stroke:var(--lost)}.zone{fill:var(--zone)}
.e0{stroke:var(--muted);opacity:.8}.e1{stroke:var(--ink);opacity:.85}.e2{stroke:var(--bad);opacity:.6}.e3{stroke:var(--bad);opacity:.85}
@media print{body{font-size:10.5pt}section,figure,table,pre{break-inside:avoid}h2{break-after:avoid}nav,.skip{display:none}
header{padding-top:0}section{margin-top:1rem}a{color:inherit}}
"""


def document(title: str, body: str) -> str:
    """A whole page around an escaped title and the markup of its body."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )
