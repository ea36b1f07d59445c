"""The page in a real browser, opened from a file."""

import base64
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from fits import plain_classifier
from page_reader import in_notebook
from sample_reports import restless

from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.report_text import settings_as_options
from sensorseq.evaluation.fit_page import PagePart, compare_on_validation, make_page
from sensorseq.inspection.facts import measure
from sensorseq.inspection.look import make_look
from sensorseq.inspection.recordings import check_recordings
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs Chromium and its chromedriver"
)


def make_report():
    rng = np.random.default_rng(0)
    trend = 0.4 + 1.4 * np.exp(-np.arange(40) / 5)
    swing = 0.2 * rng.normal(size=40)
    history = {
        "loss": trend + swing,
        "val_loss": 1.1 * trend - 0.8 * swing,
        "accuracy": 1 - trend / 2,
        "val_accuracy": np.round(60 * np.clip(1 - trend / 2 - 0.5 * swing, 0, 1)) / 60,
        "a_long_name_" * 8: np.arange(40.0),
    }
    facts = {"n_train": 300, "n_classes": 6, "best_epoch": 3}
    return replace(FluctuationReport.from_history(history, 60, **facts), causes=())


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    make_report().to_html(path)
    return path


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "findings.html"
    report = restless()
    long = replace(report.causes[1], finding="a_long_word_" * 9, evidence="x" * 400)
    replace(report, causes=(report.causes[0], long, *report.causes[2:])).to_html(path)
    return path


@pytest.fixture(scope="module")
def started():
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium for Chromium")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    # only a page in focus can read the clipboard
    driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    yield driver
    driver.quit()


@pytest.fixture
def browser(started, path):
    emulate(started, "light")
    resize(started, width=1000, height=900, mobile=False)
    started.get(path.as_uri())
    yield started
    assert started.get_log("browser") == []


def emulate(browser, scheme, media=""):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def resize(browser, **screen):
    screen["deviceScaleFactor"] = 1
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def luminance(color):
    """Return the relative luminance by WCAG 2.1 of a color computed by the browser."""
    channels = [int(number) / 255 for number in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


TEXTS = """
const paper = element => {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (colour !== "rgba(0, 0, 0, 0)") return colour;
  }
};
const found = [];
for (const e of document.querySelectorAll("main *")) {
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || e.tagName === "title" || !e.checkVisibility()) continue;
  const style = getComputedStyle(e);
  found.push([e.tagName, e instanceof SVGElement ? style.fill : style.color, paper(e)]);
}
return found;
"""


def assert_readable(browser):
    """Every text has a contrast ratio of at least 4.5, as WCAG 2.1 AA requires."""
    texts = browser.execute_script(TEXTS)
    assert len(texts) > 50
    for tag, ink, paper in texts:
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (tag, ink, paper)


def paper(browser):
    color = "return getComputedStyle(document.body).backgroundColor"
    return luminance(browser.execute_script(color))


@pytest.mark.browser
def test_every_text_can_be_read_in_the_colors_of_the_system(browser):
    assert paper(browser) > 0.9
    assert_readable(browser)
    emulate(browser, "dark")
    assert paper(browser) < 0.05
    assert_readable(browser)


COPIED = "return document.querySelector('#spoken').textContent"


def wait_for(browser, script, expected):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 10).until(lambda driver: driver.execute_script(script) == expected)


def copied(browser, code):
    """Press the button beside a piece of code; return the contents of the clipboard."""
    names = ["clipboardReadWrite", "clipboardSanitizedWrite"]
    browser.execute_cdp_cmd("Browser.grantPermissions", {"permissions": names})
    browser.find_element("css selector", f"[data-copies={code}]").click()
    wait_for(browser, COPIED, "copied")
    return browser.execute_async_script(
        "const done = arguments[0]; navigator.clipboard.readText().then(done, e => done(`${e}`))"
    )


def show(browser, folder, page):
    (folder / "page.html").write_text(page)
    browser.get((folder / "page.html").as_uri())


@pytest.mark.parametrize("system", ["light", pytest.param("dark", marks=pytest.mark.browser)])
def test_the_button_changes_the_colors_and_says_what_it_does(browser, system):
    emulate(browser, system)
    other = "dark" if system == "light" else "light"
    button, words = browser.find_element("id", "theme"), "return theme.textContent"
    wait_for(browser, words, f"{other} colors")
    button.click()
    assert (paper(browser) < 0.05) == (other == "dark")
    assert button.text == f"{system} colors"
    assert_readable(browser)


@pytest.mark.browser
@pytest.mark.parametrize("works", [True, False])
def test_where_there_is_no_clipboard_the_code_is_selected(browser, works):
    browser.execute_script(
        "Object.defineProperty(navigator, 'clipboard', {value: undefined});"
        "document.execCommand = name => name === 'copy' && arguments[0]",
        works,
    )
    browser.find_element("css selector", "[data-copies=code-foreign]").click()
    wait_for(browser, COPIED, "copied" if works else "selected; copy with Ctrl+C")
    selected = browser.execute_script("return getSelection().toString()")
    assert selected.startswith("from sensorseq import FluctuationReport")
    assert selected.endswith('report.to_html("report.html")')


@pytest.mark.browser
def test_everything_can_be_reached_and_used_by_keyboard(browser):
    from selenium.webdriver import ActionChains, Keys

    reached = []
    for _ in range(40):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        element = browser.switch_to.active_element
        if element.tag_name == "body":
            break
        outline = element.value_of_css_property("outline-style")
        reached.append(element.get_attribute("id") or element.tag_name)
        assert outline != "none", reached
        if element.tag_name == "summary":
            for is_open in (True, False):
                element.send_keys(Keys.ENTER)
                assert bool(element.find_element("xpath", "..").get_attribute("open")) == is_open
    assert reached[0] == "theme"
    assert reached.count("summary") == 1
    assert reached.count("button") == 4  # each copies a piece of code
    assert {"input", "a", "pre"} <= set(reached)


@pytest.mark.browser
def test_the_trend_is_an_overlay_shown_on_request(browser):
    visible = "return getComputedStyle(document.querySelector('polyline.trend')).visibility"
    assert browser.execute_script(visible) == "hidden"
    browser.find_element("css selector", ".overlay").click()
    assert browser.execute_script(visible) == "visible"
    raw = "return getComputedStyle(document.querySelector('polyline.validation')).visibility"
    assert browser.execute_script(raw) == "visible"


def assert_no_wider(browser, width):
    resize(browser, width=width, height=800, mobile=True)
    browser.refresh()
    browser.execute_script("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 360, 768])
def test_a_narrow_screen_need_not_be_scrolled_sideways(browser, width):
    assert_no_wider(browser, width)


@pytest.mark.browser
def test_the_page_of_a_fit_fits_a_phone(browser, tmp_path):
    rng = np.random.default_rng(0)
    label, recording = np.arange(96) % 4, np.arange(96) // 4 % 12
    windows = WindowSet(
        np.sin(np.arange(20)[None, :, None] * (0.2 + label[:, None, None]))
        + 0.2 * rng.normal(size=(96, 20, 3)),
        y=np.array([f"a_class_with_a_long_name_{i}" for i in range(4)])[label],
        recording_id=np.array([f"drive_{'of_the_robot_' * 5}{i}" for i in recording]),
        split=np.array(["train", "validation"])[(recording % 3 == 2).astype(int)],
        channels=("current_of_the_left_motor", "speed", "yaw"),
    )
    model = plain_classifier(hidden_size=8, max_epochs=30, learning_rate=0.5, random_state=0)
    model.fit(windows)
    part = PagePart.of(model, windows, "validation")

    def again(changes):
        return f"sensorseq train windows.h5 -o model{settings_as_options(changes or {})}"

    compared = compare_on_validation(model, part, windows)
    shown = make_page(model, part, title="a fit", comparison=compared, command=again)
    show(browser, tmp_path, shown)
    assert_no_wider(browser, 360)
    assert browser.execute_script(OVERLAPS) == []


TOO_WIDE = """
return [...document.querySelectorAll(".scroll")].map(e => e.scrollWidth - e.clientWidth);
"""


@pytest.mark.browser
def test_ten_classes_with_long_names_fit_the_page(browser, tmp_path):
    rng = np.random.default_rng(0)
    label = np.arange(400) % 10
    windows = WindowSet(
        rng.normal(size=(400, 20, 10)) + label[:, None, None],
        y=np.array([f"dry_grass_outdoor_{i}" for i in range(10)])[label],
        recording_id=np.arange(400) // 10 % 8 * 10 + label,
        split=np.array(["train", "validation"])[np.arange(400) // 10 % 8 % 2],
        channels=tuple(f"imu_link/linear_acceleration.{i}" for i in range(10)),
    )
    model = plain_classifier(hidden_size=4, max_epochs=2, random_state=0).fit(windows)
    part = PagePart.of(model, windows, "validation")
    show(browser, tmp_path, make_page(model, part, title="a fit"))
    assert_no_wider(browser, 820)
    assert max(browser.execute_script(TOO_WIDE)) <= 0
    assert browser.execute_script(OVERLAPS) == []
    emulate(browser, "dark")
    assert_readable(browser)


@pytest.mark.browser
def test_the_page_of_recordings_can_be_read_and_fits_a_phone(browser, tmp_path):
    rng = np.random.default_rng(0)
    names = ("current_of_the_left_motor", "speed", "yaw")
    recordings = [
        Recording.evenly_sampled(
            np.minimum(rng.normal(size=(600, 3)), 1.5),
            50.0,
            names,
            f"class_{i % 2}/drive_{'of_the_robot_' * 5}{i}",
            label=f"a_class_with_a_long_name_{i % 2}",
        )
        for i in range(6)
    ]
    facts = [measure(one) for one in recordings]
    odd = [finding.to_dict() for finding in check_recordings(facts)[0]]
    assert {one["kind"] for one in odd} == {"saturated"}
    seen = {"recordings": [{"error": "x" * 200}], "odd": odd, "ranked": []}
    show(browser, tmp_path, make_look(seen, facts, title="x"))
    assert_readable(browser)
    emulate(browser, "dark")
    assert_readable(browser)
    assert_no_wider(browser, 360)


@pytest.mark.browser
def test_ten_channels_with_long_names_fit_the_page_of_recordings(browser, tmp_path):
    rng = np.random.default_rng(0)
    names = [f"imu_link/linear_acceleration.{i}" for i in range(10)]
    ids = [f"run_{'of_the_robot_' * 3}{i}" for i in range(3)]
    drawn = (rng.normal(size=(600, 10)) for _ in ids)
    facts = [
        measure(Recording.evenly_sampled(values, 50.0, names, name, label="a"))
        for values, name in zip(drawn, ids, strict=True)
    ]
    show(
        browser, tmp_path, make_look({"recordings": [], "odd": [], "ranked": []}, facts, title="x")
    )
    assert_no_wider(browser, 820)
    assert max(browser.execute_script(TOO_WIDE)) <= 0


OVERLAPS = """
const found = [];
for (const svg of document.querySelectorAll("svg[role=img]")) {
  const texts = [...svg.querySelectorAll("text")].filter(t => t.textContent);
  const boxes = texts.map(t => t.getBoundingClientRect());
  const frame = svg.getBoundingClientRect();
  boxes.forEach((a, i) => {
    if (a.left < frame.left - 1 || a.right > frame.right + 1)
      found.push(texts[i].textContent);
    boxes.slice(i + 1).forEach((b, j) => {
      if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
        found.push([texts[i].textContent, texts[i + 1 + j].textContent]);
    });
  });
}
return found;
"""


@pytest.mark.browser
def test_no_labels_of_a_picture_overlap(browser):
    assert browser.execute_script(OVERLAPS) == []


def count_printed_pages(browser):
    # about one time in 40, Chromium refuses to print a page that is not yet drawn
    browser.get_screenshot_as_png()
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    content = base64.b64decode(printed["data"])
    assert content.startswith(b"%PDF")
    return len(re.findall(rb"/Type\s*/Page\b", content))


@pytest.mark.browser
def test_a_printed_page_is_light_open_and_folds_up_again(browser):
    emulate(browser, "dark")
    browser.find_element("id", "theme").click()
    browser.find_element("id", "theme").click()  # now the page itself is also set to dark
    browser.execute_script(
        "const rows = document.createElement('p'); rows.style.height = '4000px';"
        "document.querySelector('details').append(rows)"
    )
    n_pages = count_printed_pages(browser)
    opened = "return [...document.querySelectorAll('details')].map(e => e.open)"
    assert browser.execute_script(opened) == [False]
    browser.execute_script("document.querySelectorAll('details').forEach(e => e.remove())")
    assert count_printed_pages(browser) < n_pages - 2
    emulate(browser, "dark", media="print")
    assert paper(browser) > 0.9
    assert_readable(browser)
    assert not browser.find_element("id", "theme").is_displayed()


@pytest.mark.browser
def test_without_scripts_everything_is_readable_and_no_button_is_shown(browser, path):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(path.as_uri())
    try:
        shown = browser.find_element("tag name", "main").text
        assert make_report().explanation[0].replace("+-", "±") in shown
        assert not any(e.is_displayed() for e in browser.find_elements("tag name", "button"))
        unfolded = count_printed_pages(browser)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser.get(path.as_uri())
    # The number of printed pages is the same without scripts, so the style sheet opens the folded
    # parts.
    assert count_printed_pages(browser) == unfolded


# --- causes -------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize("system", ["light", "dark"])
def test_findings_can_be_read(browser, findings, system):
    browser.get(findings.as_uri())
    emulate(browser, system)
    browser.execute_script("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert_readable(browser)
    assert browser.execute_script(OVERLAPS) == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 360, 800])
def test_findings_fit_a_narrow_screen(browser, findings, width):
    browser.get(findings.as_uri())
    assert_no_wider(browser, width)


LISTEN = """
const button = document.querySelector('[data-copies=code-repair]');
window.labels = [];
new MutationObserver(() => labels.push(button.textContent)).observe(button, {childList: true});
"""


@pytest.mark.browser
def test_the_repair_is_copied_and_its_button_says_so(browser, findings):
    browser.get(findings.as_uri())
    browser.execute_script(LISTEN)
    repair = 'clf.set_params(lr_schedule="cosine")'
    assert copied(browser, "code-repair").strip() == repair
    wait_for(browser, "return labels.join()", "copied,copy")


@pytest.mark.browser
def test_a_notebook_s_own_styles_stay_as_they_are(browser, tmp_path):
    notebook = (
        "<!DOCTYPE html><html><head><meta charset='utf-8'></head><body data-jp-theme-light='false'>"
        "<h2>mine</h2><table><tr><td>1</td></tr></table><p class='verdict'>x</p>"
        f"{in_notebook(make_report())}{in_notebook(restless())}</body></html>"
    )
    styles = "return [...document.querySelectorAll('body, body > h2, body > table td, body > p')]"
    styles += ".map(e => JSON.stringify([...getComputedStyle(e)].map(n => [n,"
    styles += "getComputedStyle(e).getPropertyValue(n)]).filter(p => !/height|width|size|origin/"
    styles += ".test(p[0]))))"
    show(browser, tmp_path, notebook)
    with_report = browser.execute_script(styles)
    outer = "return getComputedStyle(document.querySelector('.sensorseq')).backgroundColor"
    assert luminance(browser.execute_script(outer)) < 0.05  # the notebook declares a dark theme
    browser.execute_script("document.querySelectorAll('.sensorseq').forEach(e => e.remove())")
    assert [json.loads(s) for s in with_report] == [
        json.loads(s) for s in browser.execute_script(styles)
    ]
