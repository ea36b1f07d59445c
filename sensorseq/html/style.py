"""The pages' style sheet: light, dark and print, without fonts or images to download."""

import re

# Okabe and Ito's palette, which colour-blind readers can tell apart; dash patterns differ as well.
LIGHT = """color-scheme:light;--bg:#fff;--fg:#1d2330;--soft:#5b6475;--line:#dfe3ea;--card:#f5f7fa;
--train:#0072b2;--validation:#d55e00;--good:#00795a;--bad:#b3401a;--wait:#8a6100;
--tint:0,114,178;--warn:213,94,0;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#a8579b;--c4:#b58900;--c5:#4a5568"""
DARK = """color-scheme:dark;--bg:#14171d;--fg:#e6e9ef;--soft:#9aa4b5;--line:#303744;--card:#1d222b;
--train:#56b4e9;--validation:#ff9d4d;--good:#4fd1a5;--bad:#ff8a65;--wait:#f0c24b;
--tint:86,180,233;--warn:255,157,77;
--c0:#56b4e9;--c1:#ff9d4d;--c2:#3ecf9f;--c3:#e09ad0;--c4:#f0e442;--c5:#cbd5e0"""
RULES = """
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:860px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:1.7rem;margin:.2em 0 .6em;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2em 0 .5em}
h3{font-size:1rem;margin:1.2em 0 .3em;overflow-wrap:anywhere}
p{margin:.5em 0}.small{font-size:.85rem;color:var(--soft)}
code{font-size:.9em;background:var(--card);padding:.1em .3em;border-radius:4px;
overflow-wrap:anywhere}
.verdict{border-left:5px solid var(--soft);background:var(--card);padding:.6em 1em;
border-radius:6px;overflow-wrap:anywhere}
.verdict.good{border-color:var(--good)}.verdict.wait{border-color:var(--wait)}
.verdict.bad{border-color:var(--bad)}
.verdict strong{text-transform:uppercase;letter-spacing:.03em}
.banner{display:flex;gap:14px;align-items:center;font-size:1.05rem}
.light{width:22px;height:58px;flex:none}.light rect{fill:none;stroke:var(--soft);stroke-width:1.5}
.light circle{fill:var(--line)}.light .lit.good{fill:var(--good)}.light .lit.wait{fill:var(--wait)}
.light .lit.bad{fill:var(--bad)}
.light path{fill:none;stroke:var(--bg);stroke-width:2.4;stroke-linecap:round}
.good{color:var(--good)}.wait{color:var(--wait)}.bad{color:var(--bad)}.verdict{color:var(--fg)}
.answers{margin:.8em 0 .3em}.answers dt{color:var(--soft)}
.reasons{padding-left:1.2em;overflow-wrap:anywhere}.reasons li{margin:.35em 0}
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
.statistics{width:100%}.statistics td,.statistics th{vertical-align:top}
.statistics td.words{white-space:normal;text-align:left;min-width:11em}
.statistics th{min-width:10em}.statistics thead th:not(:first-child){min-width:0}
.range{width:96px;height:14px;display:inline-block}.range line{stroke:var(--line);stroke-width:1.5}
.range .span{stroke:var(--train);stroke-width:5;opacity:.55}.range circle{fill:var(--train)}
.range .floor{stroke:var(--validation);stroke-width:2}
svg{display:block;width:100%;height:auto}
polyline{fill:none;stroke-width:1.7;stroke-linejoin:round;vector-effect:non-scaling-stroke}
polyline.dense{stroke-width:.7}
.train{stroke:var(--train)}.train:not(.dense){stroke-dasharray:6 3}
.validation{stroke:var(--validation)}
circle.train{fill:var(--train)}circle.validation{fill:var(--validation)}
.measured{stroke:var(--train)}circle.measured{fill:var(--train);stroke:none}
.above{stroke:none;fill:var(--validation)}
.band{fill:var(--validation);opacity:.2}.trainband{fill:var(--train);opacity:.18}
.closeband{fill:var(--validation);opacity:.24}
.trend{stroke:var(--fg);stroke-width:1.4;visibility:hidden}
.curves:has(.overlay:checked) .trend{visibility:visible}
.limit{stroke:var(--validation);stroke-dasharray:7 4;stroke-width:1.5}
.arm-same{stroke:var(--train);stroke-width:1.3}
.arm-other{stroke:var(--train);stroke-width:1.3;stroke-dasharray:2 3}
.arm-changed{stroke:var(--validation);stroke-width:2;stroke-dasharray:9 3}
circle.arm-same,circle.arm-other{fill:var(--train)}circle.arm-changed{fill:var(--validation)}
.bound-yes{stroke:var(--good);stroke-width:1.5;stroke-dasharray:7 4}
.bound-no{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:2 3}
.kept{stroke:var(--fg);stroke-dasharray:2 3;stroke-width:1.3}
.best{stroke:var(--soft);stroke-dasharray:8 4;stroke-width:1.3}
.spike{fill:var(--bad)}.missing{stroke:var(--bad);stroke-width:1.8;fill:none}
.grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}
.note{paint-order:stroke;stroke:var(--bg);stroke-width:4px}
.tick{fill:var(--soft);font-size:12px}.label{fill:var(--soft);font-size:12.5px}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:.85rem;color:var(--soft);margin:.5em 0}
.legend span,.legend label{display:inline-flex;align-items:center;gap:6px}
.key{width:26px;height:10px;flex:none}.key line{stroke-width:2}.key .trend{visibility:visible}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}
.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}
.causes{list-style:none;padding:0;margin:.6em 0}
.cause,.trial{border:1px solid var(--line);border-left:4px solid var(--soft);border-radius:8px;
padding:.7em 1em;margin:.8em 0;overflow-wrap:anywhere}
.cause.good,.trial.good{border-left-color:var(--good)}
.cause.wait,.trial.wait{border-left-color:var(--wait)}.cause,.trial{color:var(--fg)}
.cause h3,.trial h3,.tried h3{margin:.1em 0 .2em}
.told{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));
gap:8px 24px}
.tried{padding-left:1.2em}.tried li{overflow-wrap:anywhere}
.grade{display:flex;flex-wrap:wrap;gap:.2em .9em;align-items:center}
.mark{display:inline-flex;align-items:center;gap:.35em;font-weight:600;text-transform:uppercase;
font-size:.85rem;letter-spacing:.03em;vertical-align:bottom}
.mark.neutral{color:var(--soft)}
.icon{width:1.25em;height:1.25em;flex:none;fill:none;stroke:currentColor;stroke-width:1.5;
stroke-linecap:round;stroke-linejoin:round}
.chance{font-variant-numeric:tabular-nums}
.trial .figures{grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:12px 20px}
.change{width:auto}.change td{text-align:left}
.examples{display:grid;grid-template-columns:repeat(auto-fill,minmax(220px,1fr));gap:14px}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,380px),1fr));
gap:24px 20px}
figure{margin:0}.spark{background:var(--card);border-radius:6px}.spark polyline{stroke-width:1.3}
figcaption{font-size:.8rem;color:var(--soft);overflow-wrap:anywhere}
.figures figcaption,.told figcaption{font-size:.88rem}
.figures figcaption strong,.told figcaption strong{color:var(--fg);display:block}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2em 1.2em;font-size:.92rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
pre{background:var(--card);padding:.8em 1em;border-radius:6px;overflow-x:auto;font-size:.85rem;
margin:.4em 0}
pre code{padding:0;background:none;font-size:inherit;overflow-wrap:normal}
a{color:var(--train)}
button,.button{font:inherit;font-size:.85rem;color:var(--fg);background:var(--card);
border:1px solid var(--soft);border-radius:6px;padding:.25em .8em;cursor:pointer;
text-decoration:none;display:inline-block}
button[hidden]{display:none}
:focus-visible{outline:3px solid var(--train);outline-offset:2px}
summary{cursor:pointer;font-weight:600;padding:.3em 0}
.heard{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.tools{display:flex;flex-wrap:wrap;gap:8px 12px;align-items:center;margin:.5em 0}
.top{display:flex;justify-content:space-between;align-items:flex-start;gap:12px}
"""
NARROW = """@media (max-width:560px){main{padding:14px 12px 40px}
.curves .scroll svg{min-width:540px}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5em}}
"""
PRINT = f"""@media print{{:root,:root[data-theme]{{{LIGHT}}}
figure,table tr,.verdict,.cause{{break-inside:avoid}}h2{{break-after:avoid}}
button,.noprint,.legend .noprint{{display:none}}
.scroll,pre{{overflow:visible}}pre{{white-space:pre-wrap}}
td,td.words{{white-space:normal;min-width:0}}main{{max-width:none;padding:0}}
details::details-content{{content-visibility:visible;block-size:auto}}}}
"""
STYLE = f"""
:root{{{LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{DARK}}}}}
:root[data-theme=light]{{{LIGHT}}}
:root[data-theme=dark]{{{DARK}}}
{RULES}{NARROW}{PRINT}"""


def scoped(scope: str) -> str:
    """Return the style sheet for a fragment of another page, such as a notebook.

    All rules apply only inside `scope`. The fragment has its own background, so its colours match
    on any page. It is dark if the notebook is dark, otherwise it follows the reader's system.

    Parameters
    ----------
    scope : str
        Selector of the element around the fragment, such as ``.report``.
    """
    rules = re.sub(r"\bbody\{", f"{scope}{{", RULES)
    inside = re.sub(
        r"(?m)(^|\})([^{}]+)\{",
        lambda found: (
            found[1] + ",".join(_inside(scope, part) for part in found[2].split(",")) + "{"
        ),
        rules,
    )
    dark = ",".join(
        f"{where} {scope}"
        for where in (
            "body[data-jp-theme-light=false]",  # JupyterLab
            "body.vscode-dark",
            "html[theme=dark]",  # Colab
        )
    )
    return (
        f"{scope}{{{LIGHT}}}@media (prefers-color-scheme:dark){{{scope}{{{DARK}}}}}"
        f"body[data-jp-theme-light=true] {scope},body.vscode-light {scope}{{{LIGHT}}}"
        f"{dark}{{{DARK}}}{inside}{scope}{{padding:12px;border-radius:6px}}"
    )


def _inside(scope: str, selector: str) -> str:
    selector = selector.strip()
    return selector if selector == scope else f"{scope} {selector}"
