"""The page: one file, everything escaped, nothing fetched, readable without script."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

from fewlabel.reporting.blocks import (
    Facts,
    Folded,
    Headline,
    Page,
    Picture,
    Pictures,
    Section,
    Strip,
    Table,
    Text,
)
from fewlabel.reporting.page import render, write_report

NASTY = '<script>alert("x")</script> & co'
PICTURE = Picture("data:image/svg+xml;base64,AAAA", f"alt {NASTY}", f"caption {NASTY}", (300, 200))


class Reader(HTMLParser):
    VOID = frozenset({"meta", "img", "link", "br"})

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(html):
    reader = Reader()
    reader.feed(html)
    assert not reader.open
    return reader


def page():
    blocks = [
        Text(NASTY),
        Text("why not", "missing"),
        PICTURE,
        Pictures([PICTURE, PICTURE]),
        Strip(NASTY, "sub", [PICTURE]),
        Table(["A", NASTY, "C"], [["r", NASTY, "long"], ["s", "2", "t"]], NASTY, frozenset({1}), frozenset({1}),
              frozenset({2})),
        Facts([(NASTY, NASTY)]),
        Folded("more", Facts([("inner", "fact")])),
    ]  # fmt: skip
    figures = [(NASTY, NASTY, NASTY)]
    sections = [Section("first", NASTY, NASTY, blocks), Section("second", "Second", "")]
    return Page(NASTY, NASTY, Headline(NASTY, figures, NASTY, "gain"), sections, NASTY)


def test_text_is_escaped_everywhere():
    html = render(page())
    assert "<script" not in html
    assert parse(html).text.count("") == 0
    assert "".join(parse(html).text).count("<script>") >= 14


def test_nothing_is_fetched():
    html = render(page())
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert "url(" not in html
    for tag, values in parse(html).tags:
        assert tag not in {"link", "script", "iframe"}
        for name in ("src", "href"):
            assert values.get(name, "#").startswith(("#", "data:")), (tag, values)


def test_the_page_forbids_itself_the_rest():
    html = render(page())
    tags = parse(html).tags
    [policy] = [values["content"] for _, values in tags if values.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    # The text of the element is what a browser hashes.
    [style] = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    # It counts from where it stands: before anything that it is to forbid.
    assert html.index("Content-Security-Policy") < html.index("<title>") < html.index("<style>")
    for tag, values in tags:
        assert not [name for name in values if name == "style" or name.startswith("on")], (tag, values)


def test_reader_without_sight_or_mouse():
    tags = parse(render(page())).tags
    pictures = [values for tag, values in tags if tag == "img"]
    assert len(pictures) == 4
    assert all(values["alt"].startswith("alt") and values["width"] == "300" for values in pictures)
    assert ("html", {"lang": "en"}) in tags
    assert any(tag == "th" and values.get("scope") == "row" for tag, values in tags)
    scroll = [values for tag, values in tags if values.get("class") == "scroll"]
    assert scroll[0]["tabindex"] == "0"


def test_phone_and_print():
    html = render(page())
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "@media print" in html
    assert "@media (max-width" in html
    assert "overflow-x: auto" in html


def test_contents_lead_to_every_section():
    tags = parse(render(page())).tags
    links = [values["href"] for tag, values in tags if tag == "a"]
    anchors = [values["id"] for tag, values in tags if tag == "section" and "id" in values]
    assert links == [f"#{anchor}" for anchor in anchors] == ["#first", "#second"]


def test_marks_of_a_table():
    html = render(page())
    assert re.search(r'<tr class="strong"><th scope="row">s</th><td class="n">2</td><td class="w">t</td></tr>', html)
    assert '<th scope="col" class="n">' in html
    assert '<section class="headline gain"' in html


def test_writing_replaces_the_file(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, page())
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
