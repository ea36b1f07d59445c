"""The page's style sheet: light and dark, no fonts or pictures to fetch."""

# Okabe and Ito's palette, which colour-blind readers can tell apart; dash patterns differ as well.
STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1d2330;--soft:#5b6475;--line:#dfe3ea;--card:#f5f7fa;
--train:#0072b2;--validation:#d55e00;--good:#00795a;--bad:#b3401a;--tint:0,114,178;--warn:213,94,0;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#a8579b;--c4:#b58900;--c5:#4a5568}
@media (prefers-color-scheme:dark){:root{--bg:#14171d;--fg:#e6e9ef;--soft:#9aa4b5;--line:#303744;
--card:#1d222b;--train:#56b4e9;--validation:#ff9d4d;--good:#4fd1a5;--bad:#ff8a65;--tint:86,180,233;
--warn:255,157,77;--c0:#56b4e9;--c1:#ff9d4d;--c2:#3ecf9f;--c3:#e09ad0;--c4:#f0e442;--c5:#cbd5e0}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);line-height:1.5;
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:860px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:1.7rem;margin:.2em 0 .6em;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2em 0 .5em}
h3{font-size:1rem;margin:1.2em 0 .3em;overflow-wrap:anywhere}
p{margin:.5em 0}.small{font-size:.85rem;color:var(--soft)}
code{font-size:.9em;background:var(--card);padding:.1em .3em;border-radius:4px}
.verdict{border-left:5px solid var(--soft);background:var(--card);padding:.6em 1em;
border-radius:6px}
.verdict.normal{border-color:var(--good)}
.verdict.fluctuating,.verdict.too_short_to_tell{border-color:var(--validation)}
.verdict.diverged,.verdict.not_learning{border-color:var(--bad)}
.verdict strong{text-transform:uppercase;letter-spacing:.03em}.banner{font-size:1.05rem}
.caution{border-left:3px solid var(--validation);padding-left:.8em;color:var(--soft)}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:1em 0}
.card{flex:1 1 160px;background:var(--card);border-radius:8px;padding:.7em 1em}
.card span{display:block}.value{font-size:1.6rem;font-weight:600;font-variant-numeric:tabular-nums}
.name{color:var(--soft)}.interval{font-size:.85rem;color:var(--soft)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;margin:.6em 0}
th,td{padding:.3em .6em;text-align:right;border-bottom:1px solid var(--line)}
td{white-space:nowrap}
th{font-weight:500;text-align:left}
thead th{color:var(--soft);font-size:.82rem;vertical-align:bottom}
.matrix td{text-align:center;min-width:3.2em}.matrix thead th{text-align:center}
.matrix thead th:first-child{text-align:left}
.matrix td.right{background:rgba(var(--tint),calc(.05 + .5*var(--share)))}
.matrix td.wrong{background:rgba(var(--warn),calc(.9*var(--share)))}
.recordings{width:100%}.recordings td{text-align:left}.recordings td.number{text-align:right}
.recordings th{overflow-wrap:anywhere}
.bar{width:150px;max-width:100%;height:.7em;background:var(--line);border-radius:3px;overflow:hidden}
.bar span{display:block;height:100%;background:var(--train)}
.good{color:var(--good)}.bad{color:var(--bad)}
svg{display:block;width:100%;height:auto}
polyline{fill:none;stroke-width:1.7;stroke-linejoin:round;vector-effect:non-scaling-stroke}
.train{stroke:var(--train);stroke-dasharray:6 3}.validation{stroke:var(--validation)}
circle.train{fill:var(--train)}circle.validation{fill:var(--validation)}
.band{fill:var(--validation);opacity:.2}
.kept{stroke:var(--fg);stroke-dasharray:2 3;stroke-width:1.3}
.grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}
.tick{fill:var(--soft);font-size:12px}.label{fill:var(--soft);font-size:12.5px}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:.85rem;color:var(--soft);margin:.5em 0}
.legend span{display:inline-flex;align-items:center;gap:6px}
.key{width:26px;height:10px;flex:none}.key line{stroke-width:2}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}
.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}
.examples{display:grid;grid-template-columns:repeat(auto-fill,minmax(220px,1fr));gap:14px}
figure{margin:0}.spark{background:var(--card);border-radius:6px}.spark polyline{stroke-width:1.3}
figcaption{font-size:.8rem;color:var(--soft);overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2em 1.2em;font-size:.92rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media print{section{break-inside:avoid}}
"""
