"""The style sheet of the page: in light and dark, narrow and wide, and on paper."""

__all__ = ["STYLE"]

STYLE = """
:root{--back:#fff;--card:#f6f7f9;--ink:#1b1f24;--soft:#59636e;--line:#d5dae0;--worse:#b4410e;
--better:#0b62a8;--none:#6b7580;--accent:#0b62a8}
@media screen and (prefers-color-scheme:dark){:root{--back:#14171b;--card:#1d2127;--ink:#e7eaee;
--soft:#a3adb8;--line:#39414a;--worse:#ff9a5c;--better:#6db7ff;--none:#98a3ae;--accent:#6db7ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:80rem;padding:1.5rem;background:var(--back);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 1rem;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.2rem 0 .5rem}
p{max-width:46rem}
.note{padding:.5rem .8rem;border-left:4px solid var(--accent);background:var(--card)}
a{color:var(--accent)}
nav a{margin-right:1rem;display:inline-block}
code{font-size:.8rem;color:var(--soft);overflow-wrap:anywhere}
.skip{position:absolute;left:-99rem}
.skip:focus{left:1rem;top:.5rem;background:var(--card);padding:.4rem .8rem}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.6rem;
margin:1rem 0}
.facts div{background:var(--card);border:1px solid var(--line);border-radius:.5rem;
padding:.6rem .8rem}
.facts dt{color:var(--soft);font-size:.85rem}
.facts dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:.5rem;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.6rem .8rem;color:var(--soft);caption-side:top}
th,td{padding:.35rem .7rem;border-top:1px solid var(--line);text-align:left;vertical-align:middle}
thead th{border-top:0;color:var(--soft);font-weight:600;vertical-align:bottom}
tbody th{font-weight:400}
.forest tbody th{min-width:12rem;max-width:19rem;overflow-wrap:anywhere}
.forest td,.forest thead th{padding-left:.4rem;padding-right:.4rem}
.forest tbody tr:hover{background:var(--back)}
.forest td svg,.forest thead svg{display:block}
.kind{margin-left:.5rem;padding:0 .4rem;border:1px solid var(--line);border-radius:.8rem;
color:var(--soft);font-size:.75rem;white-space:nowrap}
.text{display:block;color:var(--soft);font-size:.8rem}
.number{font-size:.8rem;color:var(--soft);white-space:nowrap}
.verdict{min-width:12.5rem}
.verdict span{display:block;color:var(--soft);font-size:.8rem}
svg text{fill:var(--ink);font:12px system-ui,-apple-system,"Segoe UI",sans-serif}
svg .soft{fill:var(--soft)}
svg .axis{stroke:var(--line);stroke-width:1}
svg .zero{stroke:var(--soft);stroke-width:1}
svg .arc{stroke:var(--soft);stroke-width:1.5;fill:none}
svg .bar{fill:var(--accent);opacity:.75}
svg .dot{fill:var(--accent)}
svg .dot2{fill:none;stroke:var(--worse);stroke-width:1.8}
svg .lost{fill:var(--worse)}
svg .gained{fill:var(--better)}
.worse .mark{fill:var(--worse);stroke:var(--worse)}
.better .mark{fill:var(--better);stroke:var(--better)}
.no-difference .mark{fill:var(--none);stroke:var(--none)}
.pair th,.pair td{padding-left:.5rem;padding-right:.4rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr));gap:1rem;
margin:1rem 0;align-items:start}
figure{margin:0;padding:.8rem;background:var(--card);border:1px solid var(--line);
border-radius:.5rem}
figure svg{width:100%;height:auto;max-width:26rem}
figcaption{color:var(--soft);font-size:.85rem}
details{margin:1rem 0}
summary{cursor:pointer;padding:.3rem 0}
@media screen and (max-width:44rem){body{padding:1rem}.forest thead{position:absolute;left:-99rem}
.forest,.forest tbody,.forest tr,.forest td,.forest tbody th{display:block;width:100%}
.forest tbody th{max-width:none}.forest td{border-top:0;padding:0 .7rem}
.forest td.verdict{padding-top:.3rem}
.forest td:not(.verdict){display:flex;flex-wrap:wrap;align-items:center;column-gap:.6rem}
.forest td::before{flex-basis:100%}.forest tr{padding:.4rem 0;border-top:1px solid var(--line)}
.forest tbody th{border-top:0}
.forest td::before{content:attr(data-label);display:block;color:var(--soft);font-size:.8rem}}
@media print{body{padding:0}nav,.skip,details:not([open]){display:none}h2{break-after:avoid}
.scroll{overflow:visible;zoom:.66}.scroll>svg{display:block;max-width:100%;height:auto}
tr,figure,.pair>.scroll,.facts div{break-inside:avoid}
.pair>.scroll{zoom:.8}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
