"""Sphinx's settings for the site; build.py starts it, once for each language."""

from __future__ import annotations

import re

from sphinx.search import languages
from sphinx.search.zh import SearchChinese

project = "Labwright"
author = "The Labwright authors"
copyright = "the Labwright authors, Apache-2.0"  # noqa: A001 (the name is Sphinx's)
extensions = ["myst_parser"]
myst_heading_anchors = 4
highlight_language = "none"
html_theme = "furo"
html_title = "Labwright"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False
html_show_sphinx = False
templates_path = ["templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}


class Pairs(SearchChinese):
    """Chinese by pairs of characters, for Sphinx's own way needs a dictionary (jieba, which has no wheel).

    The page splits what a person types in the same way.
    """

    # By this name Sphinx 9.0 calls the stemmer on the page, and of one for Chinese there is none. It may go when
    # `window.Stemmer` of _static/language_data.js is one that is there without it.
    language_name = "English"
    words = re.compile(r"[a-zA-Z0-9_]+|[\u4e00-\u9fff]+")
    js_splitter_code = """
var splitQuery = (query) =>
  (query.match(/[a-zA-Z0-9_]+|[\\u4e00-\\u9fff]+/g) || []).flatMap((word) =>
    /[a-zA-Z0-9_]/.test(word) || word.length < 3
      ? [word]
      : Array.from({ length: word.length - 1 }, (_, at) => word.slice(at, at + 2))
  );
"""

    def split(self, input: str) -> list[str]:  # noqa: A002 (the name is Sphinx's)
        """The words of a text."""
        found = []
        for word in self.words.findall(input):
            if word.isascii():
                self.latin_terms.add(word)
                found.append(word)
            else:
                found += [word[at : at + 2] for at in range(max(len(word) - 1, 1))]
        return found


languages["zh"] = Pairs
