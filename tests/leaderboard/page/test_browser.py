"""The page in a real browser: sorting, filters, details, exports, hostile names, narrow windows, themes."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from browser import LOCAL, REQUIRED, Browser
from leaderboard_sample import DEMO, PAPER, entry, sample

RANKED = ["summit", "ridge", "glacier", "moraine", "scree", "bilinear", "nearest", "tarn"]
TEXTS = (
    *("upsampler", "code", "paper", "citation", "submitter"),
    *("version", "signature", "reproduce", "timed_on", "date", "trust", "injection", "origin"),
)
HOSTILE = [
    "<img src=x onerror=\"window.harmed='img'\">",
    "</script><script>window.harmed='script'</script>",
    "\"'><svg onload=window.harmed='svg'>",
    "javascript:window.harmed='url'",
    "\u202egpj.exe",
    '=HYPERLINK("https://example.org","x")',
    "a_b & c% #d {e} \\input{f} ~g^h",
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(chromium):
    """After each test, the console must be silent and only the page itself requested."""
    yield chromium
    assert chromium.console() == []
    foreign = [address for address in chromium.requests() if not address.startswith(LOCAL)]
    assert foreign == []


def order(browser):
    return browser.run("return [...document.querySelectorAll('#table tr[data-row]')].map((row) => row.dataset.row)")


def sort_button(browser, key):
    return browser.one(f"#table th[data-key='{key}'] button")


def address(browser):
    return browser.run("return decodeURIComponent(location.hash)")


def test_at_first_the_largest_group_is_shown_in_the_order_of_ranks(browser):
    browser.open(sample())
    assert order(browser) == [*RANKED, "crag"]
    assert browser.texts("#table .place") == ["1", "2", "3", "4", "5", "6", "7", "8"]
    assert browser.texts("#table .places") == [*("(1–2)", "(1–4)", "(2–5)", "(2–5)", "(3–6)", "(5–6)")]
    assert browser.one("#count").text == "9 of 9 entries shown"
    assert not browser.one("#demo").is_displayed()
    assert address(browser) == ""


def test_the_reader_is_told_who_may_be_the_best(browser):
    browser.open(sample())
    assert browser.one("#verdict").text == (
        "Summit-L has the best score: 9.93 clicks (NoC90, mean over 4 data sets). With 95 % confidence, 1 other entry "
        "may be the best too: Ridge. Each of the remaining 6 is shown to be worse than another entry."
    )
    assert [row.get_attribute("data-row") for row in browser.all("#table tr.front")] == ["summit", "ridge"]
    browser.choose("data", "sbd")
    assert browser.one("#verdict").text.startswith(
        "Ridge has the best score on sbd: 11.90 clicks (NoC90; 95 % interval "
    )
    browser.open(sample(), f"#group={DEMO}")
    assert browser.one("#verdict").text == (
        "demo-jbu is shown to be the best of 2 upsamplers, with 95 % confidence: 14.00 clicks "
        "(NoC90; 95 % interval 13.27 to 14.80). These are demo numbers."
    )
    # The bar shows the range on the way from the first to the last rank.
    browser.open(sample())
    line = browser.one("[data-row='scree'] td.rank .range")
    assert browser.run("return [arguments[0].style.insetInlineStart, arguments[0].style.width]", line) == [
        f"{200 / 7:.4f}%", f"{300 / 7:.4f}%",
    ]  # fmt: skip


def test_an_unranked_entry_stands_below_with_its_reason_whatever_the_order(browser):
    browser.open(sample(), "#sort=score:davis:noc90")
    assert order(browser)[-1] == "crag"
    row = browser.one("[data-row='crag']").text
    assert row.startswith("–")
    assert "trained on images of DAVIS" in row


def test_a_cell_shows_value_interval_and_a_bar_in_its_place(browser):
    browser.open(sample())
    cell = browser.all("[data-row='moraine'] td.score")[0]
    assert cell.text.split("\n")[:2] == ["7.10", "6.46 – 7.80"]
    place = "const bar = arguments[0].getBoundingClientRect(), own = arguments[1].getBoundingClientRect();"
    bar, dot, line = (cell.find_element("css selector", f".{name}") for name in ("bar", "dot", "range"))
    # The column goes from Crag's lower end, 3.5636, to Tarn's upper end, 11.1.
    centre = browser.run(f"{place} return (own.left + own.width / 2 - bar.left) / bar.width", bar, dot)
    assert centre == pytest.approx((7.1 - 3.5636) / (11.1 - 3.5636), abs=0.02)
    width = browser.run(f"{place} return own.width / bar.width", bar, line)
    assert width == pytest.approx((7.8 - 6.4636) / (11.1 - 3.5636), abs=0.02)


def test_sorting_by_mouse_and_by_keyboard(browser):
    browser.open(sample())
    assert browser.one("th[data-key='rank']").get_attribute("aria-sort") == "ascending"
    sort_button(browser, "ms_per_image").click()
    assert order(browser)[:8] == ["nearest", "bilinear", "moraine", "ridge", "scree", "summit", "glacier", "tarn"]
    assert browser.one("th[data-key='ms_per_image']").get_attribute("aria-sort") == "ascending"
    assert browser.one("th[data-key='rank']").get_attribute("aria-sort") == "none"
    assert browser.one("#said").get_attribute("textContent") == "sorted by Time, ascending"
    # The column's button keeps the focus, so Enter reverses the order; missing times stay last.
    browser.press("\ue007")
    assert order(browser)[:8] == ["glacier", "summit", "scree", "ridge", "moraine", "bilinear", "nearest", "tarn"]
    assert browser.one("th[data-key='ms_per_image']").get_attribute("aria-sort") == "descending"
    assert address(browser) == "#sort=ms_per_image&desc=1"


def test_trust_and_more_is_better_scores_start_with_the_best(browser):
    browser.open(sample(), "#data=davis")
    sort_button(browser, "trust").click()
    assert set(order(browser)[:2]) == {"summit", "bilinear"}
    sort_button(browser, "score:davis:iou_at_1").click()
    assert order(browser)[0] == "summit"
    sort_button(browser, "score:davis:noc90").click()
    assert order(browser)[0] == "summit"


def test_filters_by_protocol_backbone_data_set_trust_and_name(browser):
    browser.open(sample())
    browser.choose("protocol", "demo")
    assert order(browser) == ["demo-jbu", "demo-bilinear"]
    assert browser.one("#demo").is_displayed()
    assert browser.texts("#backbone option") == ["any", "efficientnet_lite0@16"]
    browser.choose("protocol", "")
    browser.choose("backbone", "dinov2_vits14")
    assert order(browser)[:2] == ["summit", "ridge"]
    browser.choose("data", "sbd")
    assert [text.split("\n")[0] for text in browser.texts("#table thead th")][2:6] == [
        "NoC80",
        "NoC85",
        "NoC90",
        "IoU@1",
    ]
    assert browser.one("[data-row='tarn'] td:nth-child(4)").text == "–"
    assert browser.one("[data-row='bilinear'] td:nth-child(6)").text == "–"
    browser.choose("trust", "reproduced")
    assert order(browser) == ["summit", "bilinear"]
    browser.open_filters()
    browser.one("#q").send_keys("SUM")
    assert order(browser) == ["summit"]
    # The rank is the one on sbd, and hiding the entry above does not change it.
    assert browser.texts("#table .place") == ["2"]
    assert browser.one("#count").text == "1 of 9 entries shown"
    browser.one("#reset").click()
    assert order(browser) == [*RANKED, "crag"]


def test_the_score_chosen_is_shown_for_every_data_set(browser):
    browser.open(sample())
    browser.choose("metric", "iou_at_1")
    assert browser.all("[data-row='summit'] td.score .value")[0].text == "73.3"
    assert browser.texts("#table thead .score .unit") == ["IoU@1, %"] * 4


def two_versions() -> dict[str, Any]:
    """The sample with two versions of the demo, the newer one ranked by NoC80."""
    data = sample()
    old = next(group for group in data["groups"] if group["id"] == DEMO)
    new = old | {"id": "abcdef123456-scenes", "protocol": "demo@2", "fingerprint": "abcdef" * 10, "headline": "noc80"}
    old |= {"protocol": "demo@1", "headline": "noc90"}
    members = [one | {"protocol": "demo@1"} for one in data["entries"] if one["group"] == DEMO]
    newer = [one | {"id": f"{one['id']}-2", "group": new["id"], "protocol": "demo@2"} for one in members]
    others = [one for one in data["entries"] if one["group"] != DEMO]
    return data | {"groups": [*data["groups"], new], "entries": [*members, *newer, *others]}


def test_versions_of_a_protocol_are_shown_apart_each_by_its_headline(browser):
    browser.open(two_versions())
    browser.open_filters()
    assert browser.texts("#protocol option") == ["any", "demo@1", "demo@2", "paper"]
    for label, metric, members in (
        ("demo@1", "NoC90", ["demo-jbu", "demo-bilinear"]),
        ("demo@2", "NoC80", ["demo-jbu-2", "demo-bilinear-2"]),
    ):
        browser.choose("protocol", label)
        assert order(browser) == members
        assert browser.one("#demo").is_displayed()
        assert browser.texts("#table thead .rank .unit") == [f"by {metric}"]
        assert browser.texts("#table thead .score .unit") == [f"{metric}, clicks"]
        assert browser.one("#metric").get_attribute("value") == metric.lower()
        assert browser.one("#latency-title").text == f"{metric} against time"
        assert "metric" not in address(browser)
    browser.one("#export-csv").click()
    (first, _) = csv.DictReader(io.StringIO(browser.downloaded("leaderboard.csv"), newline=""))
    assert (first["protocol"], "mean_noc80" in first, "mean_noc90" in first) == ("demo@2", True, False)
    browser.one("#export-latex").click()
    assert "ranks by NoC80" in browser.downloaded("leaderboard.tex")


def test_a_chosen_score_stays_chosen_in_another_group(browser):
    browser.open(two_versions(), "#protocol=demo@1")
    browser.choose("metric", "noc85")
    browser.choose("protocol", "demo@2")
    assert browser.texts("#table thead .score .unit") == ["NoC85, clicks"]
    assert "metric=noc85" in address(browser)
    browser.choose("metric", "noc80")  # the headline again
    browser.choose("protocol", "demo@1")
    assert browser.texts("#table thead .score .unit") == ["NoC90, clicks"]


def test_an_iou_as_headline_is_shown_in_percent_and_best_first(browser):
    data = two_versions()
    for group in data["groups"]:
        group["headline"] = "iou_at_1"
    for one in data["entries"]:
        if one["status"] == "ranked":
            one["mean_headline"] = 0.6543
    browser.open(data)
    means = browser.texts("#table [data-row='summit'] td")
    assert any(text == "65.4" for text in means), means
    browser.open(data, "#entry=summit")
    assert "Mean IoU@1" in browser.one("#detail").text and "65.4" in browser.one("#detail").text
    assert "upper left is better" in browser.one("#latency-caption").get_attribute("textContent")


def test_a_deep_link_brings_back_what_was_shown(browser):
    browser.open(sample(), f"#group={DEMO}&sort=score:scenes:noc90&desc=1")
    assert order(browser) == ["demo-bilinear", "demo-jbu"]
    browser.run("location.hash = arguments[0]", f"group={PAPER}&q=ridge")
    browser.run("return new Promise((done) => setTimeout(done, 50))")
    assert order(browser) == ["ridge"]
    assert browser.one("#q").get_attribute("value") == "ridge"


@pytest.mark.parametrize(
    "wrong", ["#group=none&sort=none&metric=none&data=none&trust=none&entry=none", "#%E0%A4%A=%", "#ranking"]
)
def test_an_address_that_names_nothing_shows_the_default(browser, wrong):
    browser.open(sample(), wrong)
    assert order(browser) == [*RANKED, "crag"]
    assert not browser.one("#detail").is_displayed()


def test_a_detail_opens_by_mouse_closes_by_escape_and_gives_back_the_focus(browser):
    browser.open(sample())
    browser.one("button.name[data-entry='glacier']").click()
    detail = browser.one("#detail")
    assert detail.is_displayed()
    assert browser.run("return document.activeElement.textContent") == "Close"
    assert "Rank 3 (2–5)" in detail.text
    assert "Shown to be better (1): Summit-L\n" in detail.text
    assert "Cannot be told apart (3): Ridge, Moraine, Scree (guided filter)\n" in detail.text
    assert "Shown to be worse (3): bilinear, nearest, Tarn-Tiny-with-a-rather-long-name\n" in detail.text
    assert "hash:c0ffee123456|up:glacier" in detail.text
    for seed in range(3):
        assert f"vfm-isbench run glacier --protocol paper --data-root DATA --seed {seed}\n" in detail.text
    assert "python -m pip install . torch==2.14.1\n" in detail.text
    assert "DATA is your folder of data sets." in detail.text
    assert "vfm-isbench leaderboard reproduce glacier --data-root DATA" in detail.text
    assert address(browser) == "#entry=glacier"
    link = browser.one("#detail .facts a")
    assert link.get_attribute("href") == "https://example.org/glacier"
    assert {"noopener", "noreferrer"} <= set(link.get_attribute("rel").split())
    browser.press("\ue00c")
    assert not detail.is_displayed()
    assert browser.run("return document.activeElement.dataset.entry") == "glacier"
    assert address(browser) == ""


def test_a_detail_has_costs_and_further_scores_where_they_are_known(browser):
    data = sample()
    glacier = next(entry for entry in data["entries"] if entry["id"] == "glacier")
    glacier |= {"flops_per_image": 12_340_000_000, "upsampler_bytes": 2**30, "training_bytes": 3 * 2**29}
    for scores in glacier["scores"].values():
        scores["further"] = {"noc95": 12.345, "nof90": 17.0, "iou_auc": 0.8765, "boundary_iou_at_5": None}
    browser.open(data, "#entry=glacier")
    text = browser.one("#detail").text
    assert "12.3 billion per image" in text and "upsampler 1.00 GiB, training 1.50 GiB" in text
    assert "NoC95 NoF90 IoU-AUC, %" in text and "12.35 17.0 87.6" in text.replace("12.34 ", "12.35 ")
    assert "Boundary" not in text, "nobody measured it"
    browser.open(data, "#entry=ridge")
    text = browser.one("#detail").text
    assert "NoC95" not in text and "GiB" not in text and "FLOPs" not in text


def test_a_detail_says_how_to_reproduce_where_the_entry_does_not(browser):
    browser.open(sample(), "#entry=tarn")
    assert "vfm-isbench leaderboard reproduce tarn --upsampler UPSAMPLER" in browser.one("#detail").text
    browser.open(sample(), "#entry=q-fjord")
    assert "reproduce" not in browser.one("#detail").text.lower()


def test_a_detail_opens_by_keyboard_alone(browser):
    browser.open(sample())
    sort_button(browser, "trust").send_keys("")
    browser.press("\ue004")
    assert browser.run("return document.activeElement.dataset.entry") == "summit"
    browser.press("\ue007")
    assert browser.one("#detail-name").text == "Summit-L"
    # The focus stays inside: the page behind is inert.
    for _ in range(12):
        browser.press("\ue004")
        # The browser's own controls end the tab order; the body stands for them.
        assert browser.run("return document.activeElement.closest('main, header, footer')") is None
    browser.press("\ue00c")
    assert not browser.one("#detail").is_displayed()


def test_a_link_to_an_entry_opens_it_in_its_group(browser):
    browser.open(sample(), "#entry=demo-jbu")
    assert browser.one("#detail-name").text == "demo-jbu"
    browser.one("#detail .close").click()
    assert order(browser) == ["demo-jbu", "demo-bilinear"]


def test_the_signature_is_copied(browser):
    browser.open(sample(), "#entry=ridge")
    browser.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    button = browser.one("button[aria-label='Copy signature']")
    button.click()
    browser.run("return new Promise((done) => setTimeout(done, 200))")
    assert button.text == "Copied"
    assert browser.run("return navigator.clipboard.readText()").endswith("hash:c0ffee123456|up:ridge")


def test_csv_has_the_rows_shown_in_full_precision(browser):
    browser.open(sample(), "#trust=reproduced&sort=name")
    browser.one("#export-csv").click()
    text = browser.downloaded("leaderboard.csv")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["id"] for row in rows] == ["bilinear", "summit", "q-fjord", "q-bilinear"]
    bilinear, summit, fjord, _ = rows
    assert (summit["rank"], summit["rank_low"], summit["rank_high"], summit["davis_rank_high"]) == (
        "1",
        "1",
        "2",
        "2",
    )
    assert (summit["mean_noc90"], summit["seeds"], summit["parameters"]) == (
        "9.925",
        "0 1 2",
        "18400000",
    )
    found = next(one for one in sample()["entries"] if one["id"] == "summit")["scores"]["davis"]["noc90"]
    assert [float(summit[key]) for key in ("davis_noc90", "davis_noc90_low", "davis_noc90_high")] == list(
        found.values()
    )
    assert (fjord["status"], fjord["rank"], fjord["davis_noc90"], fjord["davis_noc90_low"]) == (
        "quoted",
        "",
        "14.25",
        "",
    )
    assert bilinear["sbd_iou_at_1"] == ""
    assert (fjord["protocol"], fjord["notes"]) == ("paper", "simple_vit, late injection; 224×224")


def test_quoted_figures_of_another_protocol_are_shown_and_not_exported(browser):
    data = sample()
    browser.open(data)
    assert "10.58" in browser.one("#quoted").text
    for name in ("csv", "json", "latex"):
        browser.one(f"#export-{name}").click()
    rows = list(csv.DictReader(io.StringIO(browser.downloaded("leaderboard.csv"), newline="")))
    assert [row["id"] for row in rows if row["status"] == "quoted"] == ["q-fjord", "q-bilinear"]
    ids = [one["id"] for one in json.loads(browser.downloaded("leaderboard.json"))["entries"]]
    assert "q-fjord" in ids and "q-early" not in ids
    latex = browser.downloaded("leaderboard.tex")
    assert "8.68" in latex and "10.58" not in latex
    data["groups"][1]["protocol"] = "paper-early"
    browser.open(data)
    browser.one("#export-csv").click()
    rows = list(csv.DictReader(io.StringIO(browser.downloaded("leaderboard.csv"), newline="")))
    assert [row["id"] for row in rows if row["status"] == "quoted"] == ["q-early"]


def test_quoted_figures_of_other_data_are_not_exported(browser):
    browser.open(sample(), f"#group={DEMO}")
    browser.one("#export-csv").click()
    rows = list(csv.DictReader(io.StringIO(browser.downloaded("leaderboard.csv"), newline="")))
    assert [row["id"] for row in rows] == ["demo-jbu", "demo-bilinear"]


def test_json_has_the_entries_as_they_are(browser):
    data = sample()
    browser.open(data, "#q=glacier&data=davis")
    browser.one("#export-json").click()
    content = json.loads(browser.downloaded("leaderboard.json"))
    assert content["entries"] == [one for one in data["entries"] if one["id"] == "glacier"]
    assert content["group"] == data["groups"][1]
    assert content["view"] | {"q": "glacier", "data": "davis"} == content["view"]


def test_latex_is_the_table_shown(browser):
    browser.open(sample(), "#q=i&data=grabcut")
    browser.one("#export-latex").click()
    text = browser.downloaded("leaderboard.tex")
    assert "\\begin{tabular}{rlrrrr}" in text
    assert "Rank & Upsampler & NoC80 & NoC85 & NoC90 & IoU@1 (\\%) \\\\" in text
    (ridge,) = [line for line in text.splitlines() if "Ridge" in line]
    assert ridge.startswith("2 (1--2) & Ridge & ")
    assert ridge.split(" & ")[4] == "5.50 {\\scriptsize [4.86, 6.20]}"
    assert "-- & bilinear$^{q}$ & -- & -- & 8.68 & -- \\\\" in text
    assert "% q: not measured, quoted, second-hand: Sample, Example and Nobody" in text
    assert "Proceedings of Nowhere, 2026; simple_vit, late injection; 224×224\n" in text


def test_hostile_texts_are_shown_and_never_run(browser):
    data = sample()
    extra = [
        entry(
            f"hostile\"'<b>-{number}",
            text,
            7.0 + number,
            9 + number,
            **dict.fromkeys(TEXTS, text),
            ms_per_image=5.0 + number,
            notes=[text],
        )
        for number, text in enumerate(HOSTILE)
    ]
    data["entries"] += extra
    data["entries"].append(entry("hostile-why", "why", 9.0, None, status="unranked", why_unranked=HOSTILE[0]))
    data["removed"].append({"name": HOSTILE[0], "date": HOSTILE[1], "why": HOSTILE[2]})
    data["groups"][1]["datasets"].append({"name": "__proto__", "objects": 1, "content_sha256": "0"})
    data["groups"][1]["datasets"].append({"name": HOSTILE[0], "objects": 1, "content_sha256": "0"})
    data["groups"][1]["backbone"] = HOSTILE[1]
    browser.open(data)
    names = browser.texts("#table button.name")
    shown = [text.replace("\u202e", "⟨U+202E⟩") for text in HOSTILE]
    assert [name for name in names if name in shown] == shown
    for box in browser.all("#legend input:not(:checked)"):
        box.click()
    for one in extra:
        browser.run("openDetail(arguments[0])", one["id"])
        assert browser.one("#detail-name").text in shown
        assert browser.all("#detail img, #detail script, #detail .inner svg, #detail b") == []
        assert browser.all("#detail a") == []
        browser.one("#detail .close").click()
    for name in ("csv", "json", "latex"):
        browser.one(f"#export-{name}").click()
    rows = list(csv.DictReader(io.StringIO(browser.downloaded("leaderboard.csv"), newline="")))
    by_id = {row["id"]: row["name"] for row in rows}
    assert by_id["hostile\"'<b>-5"] == "'" + HOSTILE[5]
    assert [
        one["name"] for one in json.loads(browser.downloaded("leaderboard.json"))["entries"] if one in extra
    ] == HOSTILE
    latex = browser.downloaded("leaderboard.tex")
    assert "a\\_b \\& c\\% \\#d \\{e\\} \\textbackslash{}input\\{f\\} \\textasciitilde{}g\\textasciicircum{}h" in latex
    assert "⟨" not in latex.split("\\begin{tabular}")[1]
    assert browser.run("return window.harmed ?? null") is None
    assert browser.all("img, iframe, object, embed") == []


def test_html_from_strings_is_refused_by_the_page_itself(browser):
    """The policy holds even if a script tries to break it."""
    browser.open(sample())
    refused = "try { document.body.innerHTML = '<b>x</b>'; return 'set' } catch (error) { return error.name }"
    assert browser.run(refused) == "TypeError"
    assert any("TrustedHTML" in line for line in browser.console())
    browser.run(
        "const own = document.createElement('img'); own.src = 'https://example.org/x.png'; document.body.append(own)"
    )
    browser.run("return new Promise((done) => setTimeout(done, 100))")
    assert any("Content Security Policy" in line for line in browser.console())
    # The attempt is logged as a request, but was blocked before it left.
    assert browser.blocked() == ["https://example.org/x.png"]


@pytest.mark.parametrize("hash_", ["", "#data=davis", "#entry=tarn", f"#group={DEMO}"])
def test_a_phone_needs_no_sideways_scrolling(browser, hash_):
    data = sample()
    data["entries"].append(entry("long", "W" * 90, 7.0, 9, citation="x" * 300, signature="s" * 300, notes=["n" * 200]))
    browser.open(data, hash_, width=320, height=700)
    assert browser.run("return document.documentElement.scrollWidth") == 320
    for details in browser.all("main details, footer details"):
        browser.run("arguments[0].open = true", details)
    assert browser.run("return document.documentElement.scrollWidth") == 320
    if "entry" not in hash_:
        row = browser.run("return document.querySelector('#table tr[data-row]').getBoundingClientRect().width")
        assert 250 < row <= 320
        sort_button(browser, "name").click()
        assert browser.one("th[data-key='name']").get_attribute("aria-sort") == "ascending"
        assert browser.run("return document.querySelector('#table table').getAttribute('role')") == "table"


def brightness(browser, what="backgroundColor"):
    color = browser.run(f"return getComputedStyle(document.body).{what}")
    return sum(int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(",")) / 3


def test_the_theme_follows_the_system_until_the_reader_chooses(browser):
    browser.open(sample(), dark=True)
    browser.run("localStorage.clear()")
    browser.open(sample(), dark=True)
    assert brightness(browser) < 60
    assert brightness(browser, "color") > 180
    assert browser.one("#theme").text == "Light theme"
    browser.system_theme(dark=False)
    assert brightness(browser) > 240
    assert browser.one("#theme").text == "Dark theme"
    browser.one("#theme").click()
    assert brightness(browser) < 60
    browser.run("location.reload()")
    assert brightness(browser) < 60
    assert browser.one("#theme").text == "Light theme"
    browser.run("localStorage.clear()")


def test_charts_show_what_is_ticked_and_tell_their_numbers(browser):
    browser.open(sample())
    lines = "#curves svg [aria-label=line] path"
    assert len(browser.all(lines)) == 6
    assert len(browser.all("#latency svg [aria-label=dot] path")) == 6
    assert len(browser.all("#latency svg [aria-label=rule] line")) == 6
    assert "6 entries" in browser.one("#curves svg").get_attribute("aria-label")
    browser.all("#legend input")[0].click()
    assert len(browser.all(lines)) == 5
    browser.one("#curves summary").click()
    assert browser.all("#curves tbody tr")[0].text.split()[:3] == ["Ridge", "72.3", "77.9"]
    browser.run("document.querySelector('#chart-data input[value=davis]').click()")
    assert "on davis" in browser.one("#curves figcaption").text
    assert "Compare times only between equal symbols" in browser.one("#latency figcaption").text


def test_charts_without_a_tick_ask_for_one(browser):
    browser.open(sample(), f"#group={DEMO}")
    for box in browser.all("#legend input"):
        box.click()
    assert browser.texts("#charts .none") == ["Tick an entry above to draw it."] * 2


def test_no_match_says_so_and_offers_to_reset(browser):
    browser.open(sample(), "#q=nothing-like-it")
    assert order(browser) == []
    assert browser.one("#table .none").text.startswith("No entry matches the filters.")
    assert browser.one("#verdict").text == "No entry matches the filters."
    assert not browser.one("#meaning").is_displayed()
    assert not browser.one("#charts").is_displayed()
    assert "Summit" not in browser.one("main").text
    browser.one("#table .none button").click()
    assert order(browser) == [*RANKED, "crag"]
    assert browser.run("return document.activeElement.id") == "ranking"
    assert browser.one("#charts").is_displayed()


def test_the_verdict_says_if_the_filters_hide_the_best(browser):
    browser.open(sample(), "#q=tarn")
    assert browser.one("#verdict").text.endswith("The filters hide Summit-L.")
    browser.open(sample(), "#q=summit")
    assert "hide" not in browser.one("#verdict").text


def test_another_score_is_explained_and_the_ranks_say_what_they_are_by(browser):
    browser.open(sample(), "#metric=iou_at_1")
    meaning = browser.one("#meaning").text
    assert meaning.startswith("IoU@1 is the mean IoU of mask and object after the first click, in %")
    assert meaning.endswith("Ranks and the answer above are by NoC90, whatever score the table shows.")
    browser.choose("metric", "noc80")
    assert browser.one("#meaning").text.startswith(
        "NoC80 is the mean number of clicks until the mask has an IoU of 80 %"
    )
    browser.choose("metric", "noc90")
    assert "whatever score" not in browser.one("#meaning").text


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (375, 667)])
def test_the_answer_is_on_the_first_screen_and_before_the_filters(browser, width, height):
    browser.open(sample(), f"#group={DEMO}", width=width, height=height)
    box = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom"
    assert browser.run(box, "#verdict") < height / 2
    assert browser.run(box, "#verdict") < browser.run(box, ".lead") < browser.run(box, "#choices")
    if width > 1000:
        assert browser.run(box, "#table tr[data-row='demo-jbu']") < height


def test_filters_are_folded_until_one_is_in_use(browser):
    browser.open(sample())
    assert not browser.one("#filters").is_displayed()
    browser.one("#choices summary").click()
    assert browser.one("#filters").is_displayed()
    browser.open(sample(), "#trust=reproduced")
    assert browser.one("#filters").is_displayed()


def test_cards_on_a_phone_keep_the_units_and_quoted_rows_all_their_figures(browser):
    browser.open(sample(), f"#group={DEMO}", width=375, height=700)
    labels = "return [...document.querySelectorAll(arguments[0])].map((one) => one.dataset.label)"
    assert browser.run(labels, "#table tr[data-row='demo-jbu'] td") == [
        "Rank (by NoC90)", "scenes (NoC90, clicks)", "Parameters (of the upsampler)", "Time (ms per image)", "Trust",
    ]  # fmt: skip
    shown = "return getComputedStyle(document.querySelector(arguments[0]), '::before').content"
    assert browser.run(shown, "#table tr[data-row='demo-jbu'] td:last-child") == '"Trust"'
    assert browser.run(shown, "#quoted tbody td:nth-child(7)") == '"NoC90, sbd"'
    row = browser.run("return document.querySelector('#quoted .scroller').scrollWidth")
    assert row <= 375
    assert browser.run("return document.querySelector('#table').scrollWidth") <= 375
    assert [cell.text for cell in browser.all("#quoted tbody tr:first-child td")][2:6] == [
        "4.66", "8.69", "14.25", "11.87",
    ]  # fmt: skip
    assert browser.one("#quoted table").get_attribute("role") == "table"


def test_a_settled_rank_has_no_range(browser):
    browser.open(sample(), "#entry=tarn")
    assert browser.one(".standing").text.startswith("Rank 8 · ")


def test_a_curve_ends_where_its_values_do(browser):
    browser.open(sample(), "#data=sbd&q=tarn")
    browser.one("#legend input").click()
    drawn = browser.run("return document.querySelector('#curves svg [aria-label=line] path').getBBox().width")
    whole = browser.run("return document.querySelector('#curves svg').clientWidth")
    assert drawn == pytest.approx((whole - 44 - 20) * 5 / 19, abs=3)
    browser.one("#curves summary").click()
    assert browser.one("#curves tbody tr").text.split()[-3:] == ["–", "–", "–"]
    assert "no recorded times" in browser.one("#latency .plot").text


def test_axes_end_at_the_cap_of_the_protocol(browser):
    """Also where round numbers would go beyond it, and where clicking stopped early."""
    data = sample()
    group = next(one for one in data["groups"] if one["id"] == DEMO) | {"max_clicks": 12}
    members = [one for one in data["entries"] if one["group"] == DEMO]
    for member in members:
        found = member["scores"]["scenes"]
        found["noc90"] = {"value": 11.7, "low": 1.0, "high": 12.0}
        found["curve"] = [0.2 + 0.08 * click for click in range(6)] + [None] * 6
    ticks = "return [...document.querySelectorAll(arguments[0])].map((one) => Number(one.textContent))"
    browser.open(data | {"groups": [group], "entries": members})
    assert browser.run(ticks, "#curves svg [aria-label='x-axis tick label'] text") == [1, 5, 12]
    iou = browser.run(ticks, "#curves svg [aria-label='y-axis tick label'] text")
    assert (iou[0], iou[-1]) == (20, 100)
    clicks = browser.run(ticks, "#latency svg [aria-label='y-axis tick label'] text")
    assert min(clicks) >= 1 and max(clicks) == 12
    # The longest interval ends where the axis ends.
    lines = browser.run(
        "return [...document.querySelectorAll('#latency svg [aria-label=rule] line')]"
        ".map((one) => +one.getAttribute('y2'))"
    )
    tops = browser.run(
        "return [...document.querySelectorAll(\"#latency svg [aria-label='y-axis tick'] path\")]"
        ".map((one) => one.getCTM().f - one.ownerSVGElement.getCTM().f)"
    )
    assert min(lines) == pytest.approx(min(tops), abs=1)


def test_the_reader_is_told_in_words_what_the_numbers_mean(browser):
    browser.open(sample())
    lead = browser.one(".lead").text
    assert "simulated user cut out objects" in lead and "Fewer is better." in lead and "NoC" not in lead
    assert browser.one("#meaning").text == (
        "NoC90 is the mean number of clicks until the mask has an IoU of 90 % with the object (IoU: their overlap "
        "divided by their union). An object that never gets there counts as 20 clicks. Summit-L needs 9.93, "
        "Tarn-Tiny-with-a-rather-long-name 15.22."
    )
    data = sample()
    for group in data["groups"]:
        group["headline"] = "iou_at_1"
    browser.open(data, "#data=grabcut")
    assert browser.one("#meaning").text.startswith(
        "IoU@1 is the mean IoU of mask and object after the first click, in %"
    )
    browser.open(sample() | {"entries": []})
    assert not browser.one("#meaning").is_displayed()


def test_the_call_for_full_size_results_is_there_until_there_is_one(browser):
    data = sample() | {
        "wanted": {"needs": ["A GPU", "<b>data</b>"], "commands": ["vfm-isbench one", "vfm-isbench two"]}
    }
    browser.open(data)
    wanted = browser.one("#wanted")
    assert wanted.is_displayed()
    assert wanted.text.startswith("No full-size results yet\nNobody has yet measured a published upsampler")
    browser.one("#wanted summary").click()
    assert browser.texts("#wanted li") == ["A GPU", "<b>data</b>"]
    assert browser.one("#wanted code[tabindex]").text == "vfm-isbench one\nvfm-isbench two"
    browser.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    browser.one("#wanted button[aria-label='Copy commands']").click()
    browser.run("return new Promise((done) => setTimeout(done, 200))")
    assert browser.run("return navigator.clipboard.readText()") == "vfm-isbench one\nvfm-isbench two"
    # Papers' figures are not denied: the box leads to them, where there are any.
    assert "with this library. Figures quoted from papers are below." in wanted.text
    assert browser.one("#quoted-heading").is_displayed()
    browser.choose("metric", "noc80")
    assert not browser.one("#wanted-quoted").is_displayed()
    assert "--output runs/loftup-early-seed0" in wanted.text
    browser.open(sample())
    assert not browser.one("#wanted").is_displayed()


def test_links_to_the_repository_are_shown_only_if_it_has_an_address(browser):
    browser.open(sample())
    assert not browser.one("#source").is_displayed()
    browser.open(sample() | {"repository": "https://example.org/vfm_isbench"})
    assert browser.one("#source a").get_attribute("href") == "https://example.org/vfm_isbench"
    browser.open(sample() | {"repository": "javascript:alert(1)"})
    assert browser.all("#source a") == []


def test_early_and_late_quoted_rows_are_told_apart_and_marked(browser):
    browser.open(sample())
    assert browser.texts("#quoted thead th")[:3] == ["Upsampler", "Injection", "Origin"]
    rows = [
        [cell.text for cell in row.find_elements("css selector", "th, td")] for row in browser.all("#quoted tbody tr")
    ]
    assert [row[:3] for row in rows] == [
        ["Fjord", "late", "quoted, second-hand"],
        ["bilinear", "late", "quoted, second-hand"],
        ["bilinear", "early", "quoted"],
    ]
    browser.one("#export-csv").click()
    exported = list(csv.DictReader(io.StringIO(browser.downloaded("leaderboard.csv"), newline="")))
    assert {row["status"]: (row["injection"], row["origin"]) for row in exported} == {
        "ranked": ("late", "measured"),
        "unranked": ("late", "measured"),
        "quoted": ("late", "quoted, second-hand"),
    }


def test_quoted_and_removed_rows_stand_apart(browser):
    browser.open(sample())
    assert "q-fjord" not in order(browser)
    assert "14.25" in browser.all("#quoted tbody tr")[0].text
    assert "Proceedings of Nowhere" in browser.one("#quoted .sources").text
    assert browser.one("#removed li").text == "Serac (2026-10-02): its weights were trained on the test sets"
    assert browser.one("#apart li").text == "Cornice: object_limit is 20"
    assert "late injection" in browser.one("#quoted .sources").text
    # No other score is quoted, and no figure for this data set.
    browser.choose("metric", "noc80")
    assert not browser.one("#quoted").is_displayed()
    browser.choose("metric", "noc90")
    assert browser.one("#quoted").is_displayed()
    browser.choose("protocol", "demo")
    browser.choose("data", "scenes")
    assert not browser.one("#quoted").is_displayed()


@pytest.mark.parametrize(
    "data", [{"groups": [], "entries": [], "removed": [], "generated": "", "version": ""}, sample() | {"entries": []}]
)
def test_a_board_without_entries_says_so(browser, data):
    browser.open(data)
    assert browser.one("#count").text == "There are no measured entries here yet."
    assert not browser.one("#charts").is_displayed()
    assert not browser.one("#export-csv").is_enabled()


def test_controls_have_names_and_show_the_focus(browser):
    browser.open(sample())
    unnamed = """
        const named = (one) => one.labels?.length || one.textContent.trim() || one.getAttribute('aria-label');
        const controls = [...document.querySelectorAll('button, select, input')];
        return controls.filter((one) => !named(one)).map((one) => one.outerHTML);
    """
    assert browser.run(unnamed) == []
    sort_button(browser, "rank").send_keys("")
    browser.press("\ue004")
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_printing_hides_the_controls(browser):
    browser.open(sample(), dark=True)
    browser.media("print", **{"prefers-color-scheme": "dark"})
    assert not browser.one("#filters").is_displayed()
    assert browser.one("#table table").is_displayed()
    assert brightness(browser) > 240


def test_motion_is_left_away_where_it_is_not_wanted(browser):
    browser.open(sample())
    browser.run("openDetail('ridge')")
    moves = """return [getComputedStyle(document.getElementById('detail')).animationName,
        getComputedStyle(document.getElementById('theme')).transitionDuration.split(',')[0]]"""
    assert browser.run(moves) == ["none", "0s"]
    browser.media(**{"prefers-reduced-motion": "no-preference"})
    assert browser.run(moves) == ["appear", "0.12s"]


@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_missing_browser_skips_or_fails_as_asked(tmp_path, monkeypatch, required, outcome):
    monkeypatch.setattr("browser.shutil.which", lambda _name: None)
    monkeypatch.setenv(REQUIRED, required)
    with pytest.raises(outcome, match="Chromium and its driver .* are not installed"):
        Browser(tmp_path)
