"""The probes on a page: what was tried and how its re-runs went, and what was not tried."""

from html import escape

from sensorseq.fluctuation.arm_figures import draw_arms
from sensorseq.fluctuation.cause_words import KINDS, cost_words
from sensorseq.fluctuation.causes.cause import NotTested, Probes, Trial
from sensorseq.fluctuation.marks import colour_of, mark

MOST = 16  # trials with pictures; the others are told in words


def make_trials(probes: Probes) -> str:
    """Return the section of what was tried, in the order in which it was."""
    drawn: list[str] = []
    told: list[str] = []
    for trial in probes.trials:
        pictures = [draw_arms(trial)] if len(drawn) < MOST else []
        pictures = [picture for picture in pictures if picture]
        if pictures:
            drawn.append(
                f'<article class="trial {colour_of(trial.outcome)}">{_told(trial)}'
                f'<div class="figures">{"".join(pictures)}</div></article>'
            )
        else:
            told.append(f"<li>{_told(trial)}</li>")
    others = f'<h3>Tried without a curve</h3><ul class="tried">{"".join(told)}</ul>' if told else ""
    intro = (
        "The network was trained with other settings (B) and compared with the run (A) on the"
        f" validation windows. That took {cost_words(probes)}."
    )
    return (
        f"<section><h2>Probes</h2><p>{escape(intro.strip())}</p>{''.join(drawn)}{others}</section>"
    )


def _told(trial: Trial) -> str:
    sentence = trial.sentence.replace("+-", "±").removeprefix(f"{trial.name}: ")
    sentence = escape(sentence[:1].upper() + sentence[1:])
    return (
        f"<h3>{escape(trial.name)}</h3>"
        f'<div class="grade">{mark(trial.outcome)}<span class="small">for {escape(trial.cause)};'
        f" {escape(_facts(trial))}</span></div><p>{sentence}</p>"
    )


def _facts(trial: Trial) -> str:
    facts = [KINDS.get(trial.kind, trial.kind)]
    if trial.noise_ratio is not None:
        facts.append(f"noise x{trial.noise_ratio:.2g}")
    if trial.raw_change is not None:
        facts.append(f"loss {trial.raw_change:+.3f} nats")
    facts.append(f"cost {trial.cost_epochs:.3g} epochs")
    return ", ".join(facts)


def make_not_tested(parts: tuple[NotTested, ...]) -> str:
    """Return the section of what was not; nothing where all was."""
    if not parts:
        return ""
    items = "".join(
        f"<li><strong>{escape(part.cause)}</strong>: {escape(part.reason)}"
        + (f". What would settle it: {escape(part.would_settle)}" if part.would_settle else "")
        + "</li>"
        for part in parts
    )
    return f'<section><h2>Not tested, and why</h2><ul class="reasons">{items}</ul></section>'
