"""A FluctuationReport as one HTML file, and as the fragment that a notebook shows."""

import base64
import csv
import hashlib
import io
import json
import math
from collections.abc import Collection, Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from sensorseq.fluctuation.cause_cards import make_cards
from sensorseq.fluctuation.cause_figures import choose_figures
from sensorseq.fluctuation.cause_words import find_fix
from sensorseq.fluctuation.curves import describe_band, draw_curves
from sensorseq.fluctuation.figures import draw_evidence
from sensorseq.fluctuation.fix_block import make_fix
from sensorseq.fluctuation.probe_panels import make_not_tested, make_trials
from sensorseq.fluctuation.suspect_figures import make_suspects
from sensorseq.fluctuation.table import make_table
from sensorseq.fluctuation.words import answer, banner_words, limits, remaining, sizes
from sensorseq.html.code_block import code_block
from sensorseq.html.style import STYLE, scoped

if TYPE_CHECKING:
    from sensorseq.fluctuation.report import FluctuationReport

_MAX_ROWS = 300  # epochs in the appendix; the downloads have all
_MAX_DOWNLOADS = 1_300_000  # characters of links that carry files
_ROUNDED = 6  # digits, where all of them would be too many
_WORDS = {
    "normal": "The curve is as calm as can be expected of it.",
    "fluctuating": "The curve moves more than a healthy run does.",
    "diverged": "Training diverged.",
    "not_learning": "The network did not learn.",
    "too_short_to_tell": "Too little to tell whether the curve fluctuates.",
}
_ICONS = {  # the path inside a lamp of the traffic light
    "good": "M7 49l3 3 5-6",
    "wait": "M11 25.5v4.5m0 3v.1",
    "bad": "M8 7l6 6m0-6l-6 6",
}
_LAMPS = {"bad": 10, "wait": 29, "good": 48}
_SCRIPT = """
(function(){"use strict";
var root=document.documentElement,toggle=document.getElementById("theme");
function dark(){var set=root.dataset.theme;
return set?set==="dark":matchMedia("(prefers-color-scheme:dark)").matches}
function label(){toggle.textContent=dark()?"light colours":"dark colours"}
label();toggle.hidden=false;
toggle.addEventListener("click",function(){root.dataset.theme=dark()?"light":"dark";label()});
matchMedia("(prefers-color-scheme:dark)").addEventListener("change",label);
var said=document.getElementById("said");
function say(words,button){said.textContent="";setTimeout(function(){said.textContent=words},30);
button.textContent=words;setTimeout(function(){button.textContent="copy"},2500)}
function select(code){var range=document.createRange(),chosen=getSelection();
range.selectNodeContents(code);chosen.removeAllRanges();chosen.addRange(range);
try{return document.execCommand("copy")}catch(error){return false}}
function fallBack(code,button){
say(select(code)?"copied":"selected; copy with Ctrl+C",button)}
document.querySelectorAll("button[data-copies]").forEach(function(button){
var code=document.getElementById(button.dataset.copies);button.hidden=false;
button.addEventListener("click",function(){
if(!navigator.clipboard){fallBack(code,button);return}
navigator.clipboard.writeText(code.textContent).then(function(){say("copied",button)},
function(){fallBack(code,button)})})});
var closed=[];
addEventListener("beforeprint",function(){
closed=Array.from(document.querySelectorAll("details:not([open])"));
closed.forEach(function(part){part.open=true})});
addEventListener("afterprint",function(){closed.forEach(function(part){part.open=false})});
})();
"""


def make_page(report: "FluctuationReport") -> str:
    """Return the page: nothing is fetched, and all of it can be read without scripts."""
    # The policy lets this script run and no other, whatever a name in the history holds.
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    title = f"Fluctuation report: {banner_words(report)}"
    chosen = choose_figures(report.causes, report.evidence)
    sections = [
        _top(report),
        _causes(report, [picture for _, picture in chosen]),
        make_fix(report),
        *_probes(report),
        _evidence(report, {name for name, _ in chosen}),
        _statistics(report),
        _limits(report),
        _code(report),
        _downloads(report),
        _appendix(report),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>"
        '<div class="top"><h1>Fluctuation report</h1>'
        '<button type="button" id="theme" hidden>dark colours</button></div>\n'
        + "\n".join(section for section in sections if section)
        + f"\n</main><script>{_SCRIPT}</script></body></html>\n"
    )


def make_fragment(report: "FluctuationReport") -> str:
    """Return the top of the page for a notebook, with styles that stay inside of it."""
    return (
        f'<div class="sensorseq-report"><style>{scoped(".sensorseq-report")}</style>'
        f"{_top(report)}{_causes(report)}{make_fix(report, copied=False)}{_limits(report)}"
        '<p class="small">All of it:'
        " <code>report.to_html(&quot;report.html&quot;)</code></p></div>"
    )


def make_banner(report: "FluctuationReport") -> str:
    """Return the verdict as a traffic light with an icon and words."""
    colour = _colour(report)
    lamps = "".join(
        f'<circle class="{"lit " if name == colour else ""}{name}" cx="11" cy="{y}" r="7.5"/>'
        for name, y in _LAMPS.items()
    )
    icon = f'<path d="{_ICONS[colour]}"/>' if colour else ""
    light = (
        '<svg class="light" viewBox="0 0 22 58" aria-hidden="true">'
        f'<rect x="1" y="1" width="20" height="56" rx="7"/>{lamps}{icon}</svg>'
    )
    words = _WORDS.get(report.verdict, "")
    return (
        f'<div class="verdict {colour}"><p class="banner">{light}'
        f"<span><strong>{escape(banner_words(report))}</strong> {escape(words)}</span></p></div>"
    )


def make_reasons(sentences: Iterable[str]) -> str:
    """Return sentences as a list, most important first."""
    items = "".join(f"<li>{escape(sentence.replace('+-', '±'))}</li>" for sentence in sentences)
    return f'<ul class="reasons">{items}</ul>' if items else ""


def _colour(report: "FluctuationReport") -> str:
    if report.verdict == "fluctuating":
        return "bad" if report.severity == "strong" else "wait"
    return {"normal": "good", "diverged": "bad", "not_learning": "bad"}.get(report.verdict, "")


def _top(report: "FluctuationReport") -> str:
    answers = answer(report)
    answered = "".join(
        f"<dt>{escape(part.question)}</dt><dd>{escape(part.text.replace('+-', '±'))}</dd>"
        for part in answers
    )
    still_open = limits(report)
    reasons = [part for part in remaining(report, answers) if part not in still_open]
    return (
        f'<p class="small">{escape(sizes(report))}</p>{make_banner(report)}'
        f'<dl class="answers">{answered}</dl>'
        f"{make_reasons(reasons)}"
        f"<h2>Every epoch as it was</h2>{_curves(report)}"
    )


def _curves(report: "FluctuationReport") -> str:
    figure = draw_curves(
        report.history,
        n_val=report.n_val,
        best_epoch=report.best_epoch,
        evidence=report.evidence,
    )
    return figure + describe_band(report.n_val)


def _causes(report: "FluctuationReport", pictures: list[str] | None = None) -> str:
    fix = find_fix(report)
    cards = make_cards(report.causes, pictures, fix.arguments if fix is not None else {})
    return f"<section><h2>Causes</h2>{cards}</section>" if cards else ""


def _probes(report: "FluctuationReport") -> list[str]:
    if report.probes is None:
        return []
    return [
        make_trials(report.probes),
        make_suspects(report.probes.suspects),
        make_not_tested(report.probes.not_tested),
    ]


def _evidence(report: "FluctuationReport", shown: Collection[str]) -> str:
    figures = draw_evidence(report.evidence, shown)
    if not figures:
        return ""
    title = "More evidence" if any(shown) else "Evidence"
    return f'<section><h2>{title}</h2><div class="figures">{"".join(figures)}</div></section>'


def _statistics(report: "FluctuationReport") -> str:
    if not report.statistics:
        return ""
    compared = {
        name: part
        for name, part in report.statistics.items()
        if part.floor is not None or part.p is not None
    }
    others = {name: part for name, part in report.statistics.items() if name not in compared}
    more = ""
    if others:
        more = (
            f"<details><summary>{len(others)} more, held against nothing</summary>"
            f"{make_table(others)}</details>"
        )
    return (
        f'<section><h2>What was measured</h2>{make_table(compared)}<p class="small">At a glance:'
        " the dot is the value, the bar its interval, the upright line what it is held against;"
        f" each row has its own scale.</p>{more}</section>"
    )


def _limits(report: "FluctuationReport") -> str:
    return f"<section><h2>What this report cannot tell</h2>{make_reasons(limits(report))}</section>"


def _code(report: "FluctuationReport") -> str:
    given = "".join(
        f",\n    {name}={value!r}"
        for name, value in (
            ("n_val", report.n_val),
            ("n_train", report.n_train),
            ("n_classes", report.n_classes),
            ("best_epoch", report.best_epoch),
        )
        if value is not None
    )
    which, fitted = "Of a fitted classifier", 'clf.fluctuation_.to_html("report.html")'
    if report.of_module:
        which, fitted = "Of this run", 'report.to_html("report.html")'
    foreign = (
        "from sensorseq import FluctuationReport\n\n"
        f'report = FluctuationReport.from_history(\n    "history.csv"{given},\n)\n'
        'report.to_html("report.html")'
    )
    return (
        f"<section><h2>Make this report</h2><p>{which}:</p>"
        f"{code_block(fitted, 'fitted')}<p>Of the history alone, whoever trained;"
        " the file is below:</p>"
        f'{code_block(foreign, "foreign")}<p class="heard" id="said" role="status"'
        ' aria-live="polite"></p></section>'
    )


def _downloads(report: "FluctuationReport") -> str:
    """Return links that carry files, as far as there is room for them."""
    room, links, left_out = _MAX_DOWNLOADS, [], []
    for name, kind, write in (
        ("history.csv", "text/csv", _csv),
        ("history.json", "application/json", _json),
    ):
        for digits, note in ((None, ""), (_ROUNDED, f", {_ROUNDED} digits")):
            content = base64.b64encode(write(report.history, digits).encode()).decode()
            if len(content) <= room:
                room -= len(content)
                links.append(
                    f'<a class="button" download="{name}" href="data:{kind};base64,{content}">'
                    f"{name}{note}</a>"
                )
                break
        else:
            left_out.append(name)
    more = ""
    if left_out:
        more = (
            f"<p>{escape(' and '.join(left_out))}: too long to be carried here;"
            " <code>report.history</code> has all.</p>"
        )
    return (
        '<section class="noprint"><h2>The history</h2><p>Every column of numbers, epoch by epoch.'
        f'</p><div class="tools">{"".join(links)}</div>{more}</section>'
    )


def _json(history: Any, digits: int | None) -> str:
    columns = {
        name: [_round(value, digits) for value in values] for name, values in history.items()
    }
    return json.dumps(columns, separators=(",", ":"))


def _csv(history: Any, digits: int | None) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(history)
    for row in zip(*history.values(), strict=True):
        writer.writerow([_round(value, digits) for value in row])
    return text.getvalue()


def _round(value: Any, digits: int | None) -> Any:
    if digits is None or value is None or not math.isfinite(value):
        return value
    return float(f"{value:.{digits}g}")


def _appendix(report: "FluctuationReport") -> str:
    names = list(report.history)
    rows = list(zip(*report.history.values(), strict=True))
    body = "".join(
        f'<tr><th scope="row">{epoch}</th>'
        + "".join(f"<td>{'' if value is None else f'{value:.6g}'}</td>" for value in row)
        + "</tr>"
        for epoch, row in enumerate(rows[:_MAX_ROWS], 1)
    )
    more = ""
    if len(rows) > _MAX_ROWS:
        more = f"<p>The first {_MAX_ROWS} of {len(rows)} epochs; the files above have all.</p>"
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("epoch", *names))
    epochs = (
        f"<h3>Epochs</h3>{more}"
        '<div class="scroll" tabindex="0" role="group" aria-label="epochs"><table><thead><tr>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    facts = {
        name: value
        for name, value in report.to_dict().items()
        if name not in ("history", "evidence", "explanation", "causes", "probes")
    }
    return (
        "<section><details><summary>Appendix: all numbers</summary>"
        f"{epochs if rows else ''}<h3>Statistics</h3>"
        f'<pre tabindex="0">{escape(json.dumps(facts, indent=1))}</pre></details></section>'
    )
