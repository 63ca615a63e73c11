"""Pins that contradict each other are named, with ways out that are true; what goes together is left in peace."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import metadata as maker
import pins as program
from labwright import pins
from labwright.pins import Contradiction, Metadata, Pin, find, load, parse

ROOT = Path(__file__).resolve().parents[2]
ENV = ROOT / "env"
METADATA = load(ENV)
STACKS = program.stacks(ENV)
GITHUB = "https://github.com"

REST_OF_2023 = """
transformers==4.30.2
torch==2.0.0+cu117
torchvision==0.15.1+cu117
torchaudio==2.0.1
cpm_kernels
pyautogen
"""
TREE_2023 = '-e ".[model_worker,webui]"' + REST_OF_2023
RELEASE_2023 = "fschat[model_worker,webui]==0.2.36" + REST_OF_2023


def look(text: str, python: str = "3.11", platform: str = "linux-64", model: str = "") -> list[Contradiction]:
    return find(parse(text), METADATA, python, platform, model=model)


def ids(found: list[Contradiction]) -> list[str]:
    return [one.id for one in found]


def only(found: list[Contradiction], identifier: str) -> Contradiction:
    some = [one for one in found if one.id == identifier]
    assert len(some) == 1, f"{identifier} in {ids(found)}"
    return some[0]


# ---- The recipe of 2023


@pytest.mark.parametrize("text", [TREE_2023, RELEASE_2023], ids=["tree", "release"])
def test_the_recipe_of_2023_contradicts_itself(text: str) -> None:
    found = look(text)
    assert ids(found) == ["LW-PINS-002", "LW-KNOWN-006", "LW-KNOWN-008", "LW-KNOWN-009"]
    said = found[0].say()
    assert "fschat 0.2.36" in said["message"]
    assert "needs transformers>=4.31.0" in said["message"]
    assert "transformers==4.30.2" in said["message"]
    assert "unpinned, today 0.10.0" in only(found, "LW-KNOWN-008").say()["message"]
    assert "'from_env'" in only(found, "LW-KNOWN-006").say()["message"]


def test_a_source_tree_is_said_to_be_taken_for_a_release() -> None:
    assert "a source tree" in look(TREE_2023)[0].say()["message"]
    assert "a source tree" not in look(RELEASE_2023)[0].say()["message"]


def test_the_ways_out_of_2023_are_true() -> None:
    first, for_model, older = look(RELEASE_2023)[0].ways_out()
    assert first == "transformers 4.31.0 to 4.57.6 satisfy fschat 0.2.36."
    assert for_model == "For chatglm2-6b: transformers 4.31.0 to 4.33.3."
    assert older == "fschat 0.1.1 to 0.1.2, 0.2.2 to 0.2.3 admit transformers 4.30.2."
    for version in ("4.31.0", "4.33.3"):
        assert "LW-PINS-002" not in ids(look(RELEASE_2023.replace("4.30.2", version), model="chatglm2-6b"))
    for version in ("0.1.1", "0.1.2", "0.2.2", "0.2.3"):
        assert "LW-PINS-002" not in ids(look(RELEASE_2023.replace("0.2.36", version)))
    # And the first ones beyond are not.
    for version in ("0.2.4", "0.2.20", "0.2.21", "0.2.35"):
        assert "LW-PINS-002" in ids(look(RELEASE_2023.replace("0.2.36", version)))


def test_with_the_model_known_only_its_versions_are_offered() -> None:
    ways = look(RELEASE_2023, model="chatglm2-6b")[0].ways_out()
    assert ways[0] == "transformers 4.31.0 to 4.33.3 satisfy fschat 0.2.36."


def test_a_local_label_satisfies_the_plain_version() -> None:
    assert look("torch==2.0.0+cu117\ntorchvision==0.15.1+cu117\ntorchaudio==2.0.1") == []
    clash = only(look("torch==2.0.1+cu117\ntorchvision==0.15.1+cu117"), "LW-PINS-002")
    assert "torch==2.0.0" in clash.say()["message"]
    assert clash.ways_out() == [
        "torch 2.0.0 satisfies torchvision 0.15.1+cu117.",
        "torchvision 0.15.2 admits torch 2.0.1+cu117.",
    ]


def test_the_recipe_mended_is_at_peace() -> None:
    serving = """
    fschat[model_worker]==0.2.36
    transformers==4.33.3
    pydantic<2
    torch==2.0.0+cu117
    torchvision==0.15.1+cu117
    torchaudio==2.0.1
    cpm_kernels
    """
    assert look(serving, model="chatglm2-6b") == []
    agents = look("pyautogen==0.2.35\nopenai<2\ndocker")
    assert {one.kind for one in agents} == {pins.NOTE}


# ---- The project's own stacks


# FastChat's page needs the pydantic with which FastChat's API does not stream: that is why it has a stack of its own.
KNOWN = {"web": ["LW-KNOWN-009"]}


PLACES = [
    (name, platform)
    for name, folder in STACKS.items()
    for platform in yaml.safe_load((folder / "stack.yml").read_text(encoding="utf-8"))["platforms"]
]


@pytest.mark.parametrize(("stack", "platform"), PLACES)
def test_the_stacks_of_the_project_do_not_contradict_themselves(stack: str, platform: str) -> None:
    texts = program.texts_of_stack(STACKS[stack], platform)
    builds = yaml.safe_load((STACKS[stack] / "stack.yml").read_text(encoding="utf-8")).get("builds")
    assert [text.name for text in texts] == (
        [f"{stack} {tag} {platform}" for tag in sorted(builds)] if builds else [f"{stack} {platform}"]
    )
    for text in texts:
        assert len(text.pins) > 20
        assert all(pin.closed and not pin.fault for pin in text.pins)
        model = "chatglm2-6b" if stack == "chatglm2" else ""
        found = find(text.pins, METADATA, text.python, platform, model=model)
        assert ids([one for one in found if one.kind != pins.NOTE]) == KNOWN.get(stack, [])


def test_a_stack_whose_transformers_a_model_cannot_take_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--stack", "current", "--model", "chatglm2-6b"]) == 1
    assert "LW-KNOWN-002: transformers 4.57.6 does not load ChatGLM2-6B" in capsys.readouterr().out


def test_a_stack_that_is_spoilt_is_found() -> None:
    [text] = program.texts_of_stack(STACKS["frontend"], "linux-64")
    worse = [
        replace(one, version="2.14.3", specifier="==2.14.3") if one.name == "pydantic" else one for one in text.pins
    ]
    assert "LW-KNOWN-009" in ids(find(worse, METADATA))


# ---- Each id

CASES = {
    "LW-PINS-001": ("transformers=4.30.2", {}),
    "LW-PINS-002": ("transformers==4.33.3\ntokenizers==0.14.0", {}),
    "LW-PINS-003": ("pyautogen==0.2.35", {"python": "3.13"}),
    "LW-PINS-004": ("pydantic<2\npydantic==2.10.6", {}),
    "LW-PINS-005": ("fschat[llm_judge]==0.2.36\npydantic<2\npyautogen==0.2.0", {}),
    "LW-PINS-007": ("left-pad==1.0", {}),
    "LW-KNOWN-002": ("transformers==4.34.0", {"model": "chatglm2-6b"}),
    "LW-KNOWN-006": ("pyautogen==0.2.7", {}),
    "LW-KNOWN-007": ("pyautogen==0.2.8", {}),
    "LW-KNOWN-008": ("pyautogen", {}),
    "LW-KNOWN-009": ("fschat==0.2.36", {}),
    "LW-KNOWN-010": ("fschat==0.2.36\npydantic<2\nuvicorn==0.28.1", {}),
    "LW-KNOWN-011": ("fschat[webui]==0.2.36\npydantic<2", {}),
    "LW-KNOWN-012": ("torch==2.0.0", {"platform": "win-64"}),
    "LW-KNOWN-014": ("fschat[model_worker]==0.2.36\npydantic<2\ntransformers", {}),
}
# What shows only in the program.
IN_PROGRAM = {"LW-PINS-006", "LW-PINS-008"}


@pytest.mark.parametrize("identifier", CASES)
def test_each_id_is_brought_about_and_said_in_both_languages(identifier: str) -> None:
    text, options = CASES[identifier]
    found = only(look(text, **options), identifier)
    for language in pins.LANGUAGES:
        said = found.say(language)
        assert said["id"] == identifier
        for part in ("message", "fix"):
            assert said[part], f"{language} {part} is empty"
            assert not re.search(r"[{}]", said[part]), said[part]
        assert bool(re.search(r"[\u4e00-\u9fff]", said["message"] + said["fix"])) == (language == "zh")


def test_every_id_has_a_case() -> None:
    there = {one.id for one in METADATA.known} | set(
        re.findall(r"LW-[A-Z]+-\d{3}", (ENV / "pins.py").read_text(encoding="utf-8"))
    )
    assert there == set(CASES) | IN_PROGRAM


def test_all_texts_are_in_both_languages() -> None:
    for one in METADATA.known:
        for texts in (one.message, one.fix):
            assert set(texts) == set(pins.LANGUAGES), one.id
            english, chinese = (set(re.findall(r"{(\w+)}", texts[language])) for language in pins.LANGUAGES)
            assert english == chinese, one.id
    for key, texts in pins.PHRASES.items():
        english, chinese = (set(re.findall(r"{(\w+)}", texts[language])) for language in pins.LANGUAGES)
        assert english == chinese, key


# ---- What is told, and what is not


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("fschat[llm_judge]==0.2.36\npydantic<2\npyautogen==0.1.14\ndocker", {}),
        # An installer would take an older one.
        ("pyautogen<0.3\nopenai==0.28.1\ndocker", {}),
        ("transformers>=4.31\ntokenizers==0.13.3", {}),
        ("transformers==4.34.0", {}),
        ("transformers==4.33.3", {"model": "chatglm2-6b"}),
        ("pydantic>=1.10\npydantic<2", {}),
        ("pydantic==1.10.2\npydantic==2.0.3 ; python_version < '3.8'", {}),
        ("fschat==0.2.36\npydantic==1.10.27\nuvicorn==0.29.0", {}),
        ("torch==2.0.0+cu117", {"platform": "win-64"}),
        ("", {}),
    ],
)
def test_what_goes_together_is_left_in_peace(text: str, options: dict[str, str]) -> None:
    assert look(text, **options) == []


def test_docker_is_missed_where_nothing_brings_it_only() -> None:
    assert "LW-KNOWN-006" not in ids(look("pyautogen==0.2.8"))
    locked = "\n".join(f"{line} --hash=sha256:{'0' * 64}" for line in ("pyautogen==0.2.8", "openai==1.109.1"))
    assert "LW-KNOWN-006" in ids(look(locked))
    assert "LW-KNOWN-006" not in ids(look("pyautogen==0.2.7\ndocker"))


def test_the_two_agents_lines_are_told_to_part() -> None:
    found = only(look(CASES["LW-PINS-005"][0]), "LW-PINS-005")
    assert "fschat 0.2.36 needs openai<1 and pyautogen 0.2.0 needs openai~=1.2" in found.say()["message"]
    assert found.ways_out() == [
        "fschat 0.2.24 to 0.2.32 satisfy pyautogen 0.2.0.",
        "pyautogen 0.1.14 satisfies fschat 0.2.36.",
        "Put fschat and pyautogen into environments of their own.",
    ]


def test_ways_out_heed_what_is_brought_in() -> None:
    # fschat 0.2.7 brings transformers 4.28, which sets the upper bound; fschat itself sets the lower one.
    found = only(look("fschat==0.2.7\ntokenizers==0.11.6"), "LW-PINS-002")
    assert found.ways_out()[0] == "tokenizers 0.12.1 to 0.13.3 satisfy fschat 0.2.7."


def test_a_python_too_new_is_told_with_those_that_suit() -> None:
    ways = only(look("pyautogen==0.2.35", python="3.13"), "LW-PINS-003").ways_out()
    assert ways[0] == "pyautogen 0.2.35 runs on Python 3.8 to 3.12."
    assert ways[1].startswith("pyautogen 0.1.14, 0.5.3 to 0.10.0 run on Python 3.13")


def test_the_same_package_twice_names_both_lines() -> None:
    said = only(look("# a note\npydantic<2\n\nPydantic == 2.10.6"), "LW-PINS-004").say()
    assert "pydantic<2 (line 2) and pydantic==2.10.6 (line 4)" in said["message"]


def test_what_nothing_is_stored_of_is_a_note() -> None:
    found = look("left-pad==1.0\nfschat==0.2.99")
    note = only(found, "LW-PINS-007")
    assert note.kind == pins.NOTE
    assert "left-pad, fschat 0.2.99" in note.say()["message"]


def test_of_a_pair_with_no_way_out_that_is_said() -> None:
    ways = only(look("fschat[webui]==0.2.36\npydantic<2"), "LW-PINS-002").ways_out()
    assert ways == ["No version that is known here fits all the other pins; change one of those as well."]


@pytest.mark.trap("markers")
@pytest.mark.parametrize("platform", pins.PLATFORMS)
def test_markers_are_those_of_the_platform(platform: str) -> None:
    text = 'pydantic<2 ; sys_platform == "win32"\npydantic>=2 ; sys_platform == "linux"\nfastapi==0.95.2'
    found = ids(look(text, platform=platform))
    assert found == ([] if platform == "win-64" else ["LW-PINS-002"])


# ---- Versions


@pytest.mark.parametrize(
    ("one", "other", "excluded"),
    [
        ("<1", ">=1.3", True),
        ("<2", ">=1.3", False),
        (">1", "<1.1", False),
        (">1", "<=1", True),
        (">=1", "<=1", False),
        ("~=1.2", ">=2", True),
        ("==1.10.*", "<1.10", True),
        ("==1.10.*", "!=1.10", False),
        ("==2.0.0", "==2.0.0+cu117", False),
        ("==2.0.0+cpu", "==2.0.0+cu117", True),
        ("<2,>=1", "", False),
    ],
)
def test_specifiers_exclude_each_other(one: str, other: str, excluded: bool) -> None:
    assert pins.exclude(one, other) is excluded
    assert pins.exclude(other, one) is excluded


def test_ranges_break_at_a_stored_version_that_is_not_among_them() -> None:
    stored = [Version(f"1.{minor}") for minor in range(6)]
    some = pins.ranges([stored[0], stored[2], stored[3], stored[4]], stored)
    assert [one if isinstance(one, str) else one.say("en") for one in some] == ["1.0", "1.2 to 1.4"]


# ---- Reading


@pytest.mark.parametrize(
    ("line", "pin"),
    [
        ("torch==2.0.0+cu117", Pin("torch", specifier="==2.0.0+cu117", version="2.0.0+cu117")),
        ("Cpm_Kernels", Pin("cpm-kernels")),
        ("openai>=1.3,<2", Pin("openai", specifier="<2,>=1.3")),
        ("pydantic==1.10.*", Pin("pydantic", specifier="==1.10.*")),
        (
            "fschat[model_worker, webui]==0.2.36  # the last",
            Pin("fschat", frozenset({"model_worker", "webui"}), "==0.2.36", "0.2.36"),
        ),
        ("x==1 ; os_name == 'nt'", Pin("x", specifier="==1", version="1", marker='os_name == "nt"')),
        ("x==1 --hash=sha256:00 --hash=sha256:11", Pin("x", specifier="==1", version="1", closed=True)),
        ("x==1 ; os_name == 'nt' --hash=sha256:00", Pin("x", frozenset(), "==1", "1", 'os_name == "nt"', closed=True)),
        ('-e ".[model_worker,webui]"', Pin("fschat", frozenset({"model_worker", "webui"}), tree=True)),
        ("--editable=./FastChat[webui]", Pin("fschat", frozenset({"webui"}), tree=True)),
        (".", Pin("fschat", tree=True)),
        (r"C:\work\FastChat-main", Pin("fschat", tree=True)),
        (f"-e git+{GITHUB}/lm-sys/FastChat.git#egg=fschat[webui]", Pin("fschat", frozenset({"webui"}), tree=True)),
        (f"git+{GITHUB}/lm-sys/FastChat.git@main", Pin("fschat", tree=True)),
        (f"fschat @ git+{GITHUB}/lm-sys/FastChat.git", Pin("fschat", tree=True)),
        (f"-e git+{GITHUB}/someone/peft.git#egg=peft", Pin("peft")),
        ("./wheels/torch-2.0.0+cpu-cp310-cp310-win_amd64.whl", Pin("torch", frozenset(), "==2.0.0+cpu", "2.0.0+cpu")),
    ],
)
def test_a_line_is_read(line: str, pin: Pin) -> None:
    assert parse(line) == [replace(pin, line=1, text=re.sub(r"\s+# .*", "", line))]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("transformers=4.30.2", "it is no requirement"),
        ("torch==2.0.0 torchvision==0.15.1", "it is no requirement"),
        ("pip3 install docker", "it is no requirement"),
        ("torch==new", "it is no requirement"),
        ("torch ; python_version >>> '3'", "it is no requirement"),
        ('"', "it is no requirement"),
        ("broken-name.whl", "it is no requirement"),
        ("\x00\x01", "it is no requirement"),
        ("-r other.txt", "it names another file"),
        ("-cother.txt", "it names another file"),
        ("-e ../some-project", "it does not say which package it is"),
    ],
)
def test_a_line_that_cannot_be_used_is_a_finding(line: str, reason: str) -> None:
    found = look(f"# first\n{line}")
    assert ids(found) == ["LW-PINS-001"]
    assert f"Line 2 cannot be used: {reason}" in found[0].say()["message"]


def test_options_pin_nothing() -> None:
    text = (
        "-i place\n--index-url place\n--extra-index-url=place\n-f wheels\n--no-deps\n--require-hashes\n--pre\n   # -e ."
    )
    assert parse(text) == []


def test_continued_lines_are_one() -> None:
    [pin] = parse("# lock\nnumpy==1.26.4 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n")
    assert (pin.name, pin.version, pin.closed, pin.line) == ("numpy", "1.26.4", True, 2)
    [last] = parse("numpy==1.26.4 \\")
    assert last.version == "1.26.4"


# ---- What is stored


def test_everything_stored_can_be_read() -> None:
    for releases in METADATA.releases.values():
        for release in releases.values():
            SpecifierSet(release.requires_python)
            for line in release.requires_dist:
                Requirement(line)
    for one in METADATA.known:
        for when in one.when:
            assert set(when) <= set(METADATA.releases), one.id
            for specifier in when.values():
                SpecifierSet(specifier)


def test_the_stored_metadata_is_what_its_list_asks_for() -> None:
    wanted = maker.read_list((ENV / "catalog/metadata.in").read_text(encoding="utf-8"))
    assert {one.name for one in wanted} == set(METADATA.releases)
    for one in wanted:
        versions = {Version(word) for word in one.versions if word not in {"all", "newest"}}
        assert versions <= set(METADATA.releases[one.name]), one.name


def test_the_stored_metadata_is_as_its_program_writes_it() -> None:
    text = maker.DATA.read_text(encoding="utf-8")
    assert text == maker.render(yaml.safe_load(text)["packages"])


def test_the_stored_metadata_names_no_place() -> None:
    text = maker.DATA.read_text(encoding="utf-8")
    assert re.findall(r"https?:|file:| @ ", text) == []


@pytest.mark.parametrize("line", ["fschat", "fschat[ 0.2.36"])
def test_a_bad_line_of_the_list_is_refused(line: str) -> None:
    with pytest.raises(maker.MetadataError, match="LW-METADATA-001"):
        maker.read_list(line)


def test_versions_that_the_index_lacks_are_refused() -> None:
    there = [Version(one) for one in ("1.0", "1.1", "2.0rc1", "1.1+cpu")]
    assert maker.chosen(maker.Wanted("x", frozenset(), ("1.0", "newest")), there) == [Version("1.0"), Version("1.1")]
    assert maker.chosen(maker.Wanted("x", frozenset(), ("all",)), there) == [Version("1.0"), Version("1.1")]
    for versions, places in ((("3.0",), there), (("all",), [])):
        with pytest.raises(maker.MetadataError, match="LW-METADATA-002"):
            maker.chosen(maker.Wanted("x", frozenset(), versions), places)


def test_requirements_of_extras_are_kept_where_asked_for() -> None:
    extras = frozenset({"model_worker"})
    assert maker.wanted_here("numpy", extras)
    assert maker.wanted_here("peft ; extra == 'model-worker'", extras)
    assert not maker.wanted_here('black ; python_version > "3" and extra == "dev"', extras)


def test_what_is_rendered_is_what_is_read() -> None:
    stored = {"x": {"1.10": {"requires_python": ">=3.8", "requires_dist": ["y ; extra == 'z'"]}}}
    text = maker.render(stored)
    assert yaml.safe_load(text) == {"packages": stored}
    assert text.startswith("# ")


# ---- The program


def write(folder: Path, text: str) -> str:
    path = folder / "requirements.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_program_ends_with_1_and_says_the_ways_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([write(tmp_path, TREE_2023)]) == 1
    out = capsys.readouterr().out
    assert "transformers 4.31.0 to 4.57.6 satisfy fschat 0.2.36." in out
    assert "1 contradictions, 3 known problems, 0 notes." in out


def test_the_program_speaks_chinese(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([write(tmp_path, TREE_2023), "--language", "zh", "--model", "chatglm2-6b"]) == 1
    out = capsys.readouterr().out
    assert "transformers 4.31.0 至 4.33.3 满足 fschat 0.2.36 的要求。" in out
    assert "矛盾 1 处，已知问题 3 处" in out


def test_the_program_speaks_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([write(tmp_path, RELEASE_2023), "--json"]) == 1
    whole = json.loads(capsys.readouterr().out)
    assert whole["ok"] is False
    assert whole["findings"][0]["id"] == "LW-PINS-002"
    assert whole["findings"][0]["ways_out"]


@pytest.mark.parametrize("stack", [stack for stack in STACKS if stack not in KNOWN])
def test_the_program_passes_the_stacks(stack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--stack", stack]) == 0
    assert f"No contradiction in {stack}" in capsys.readouterr().out


def test_the_program_says_that_the_page_must_not_serve_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--stack", "web"]) == 1
    out = capsys.readouterr().out
    assert "every streaming call to FastChat's API fails" in out
    assert "0 contradictions, 1 known problems" in out


def test_a_stack_brings_its_python_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--stack", "agents", "--python", "3.13"]) == 1
    assert "LW-PINS-003" in capsys.readouterr().out


def test_a_text_of_powershell_is_read(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("torch==2.0.0+cu117\r\n", encoding="utf-16")
    assert program.main([str(path), "--platform", "win-64"]) == 0


@pytest.mark.parametrize("content", [None, b"\xff\x00\x81binary", b"PK\x03\x04\x00\x00"])
@pytest.mark.parametrize("language", pins.LANGUAGES)
def test_a_file_that_is_no_text_is_refused(
    content: bytes | None, language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "requirements.txt"
    if content is not None:
        path.write_bytes(content)
    assert program.main([str(path), "--language", language]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("LW-PINS-006: ")
    assert not re.search(r"[{}]", said.err)
    assert said.out == ""


def test_a_stack_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--stack", "none"]) == 2
    assert "chatglm2, current, frontend, vllm, web, agents" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [[], ["a", "--stack", "agents"], ["a", "--python", "three"], ["a", "--platform", "amiga"]]
)
def test_wrong_use_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(words)
    assert ended.value.code == 2


def test_stored_data_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write(tmp_path, "torch==2.0.0")
    monkeypatch.setattr(program, "ENV", tmp_path)
    assert program.main([text]) == 2
    assert capsys.readouterr().err.startswith("LW-PINS-008: ")


def test_nothing_stored_is_no_traceback() -> None:
    empty = Metadata({}, METADATA.known)
    assert ids(find(parse(TREE_2023), empty)) == ["LW-PINS-007"]


# ---- What a hostile reader tried


@pytest.mark.parametrize("line", ["torch>=" + "9" * 5000, "torch===" + "9" * 5000, "torch==" + "1." * 3000])
def test_a_number_of_thousands_of_digits_is_no_traceback(line: str) -> None:
    assert set(ids(look(line))) <= {"LW-PINS-001", "LW-PINS-007", "LW-KNOWN-012"}


@pytest.mark.parametrize("other", ["torch==2.*", "torch~=2.0", "torch>=2"])
def test_an_exact_pin_with_three_signs_goes_with_a_range_that_holds_it(other: str) -> None:
    assert "LW-PINS-004" not in ids(look(f"torch===2.0.0\n{other}"))


def test_an_exact_pin_that_is_no_version_is_no_traceback() -> None:
    look("torch===abc\ntorch>=2")


@pytest.mark.parametrize("name", ["chatglm2-6B", "THUDM/chatglm2-6b", "zai-org/chatglm2-6b"])
def test_a_model_is_known_by_all_its_names(name: str, tmp_path: Path) -> None:
    text = tmp_path / "r.txt"
    text.write_text("transformers==4.40.2\n")
    assert program.main([str(text), "--model", name]) == 1


def test_a_model_that_nobody_knows_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "r.txt"
    text.write_text("transformers==4.40.2\n")
    with pytest.raises(SystemExit) as ended:
        program.main([str(text), "--model", "chatglm9"])
    assert ended.value.code == 2
    assert "chatglm2-6b" in capsys.readouterr().err


@pytest.fixture
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the agents' stack, to be damaged."""
    folder = shutil.copytree(ENV / "agents", tmp_path / "agents")
    monkeypatch.setattr(program, "stacks", lambda _env: {"agents": folder})
    return folder


def test_a_stack_without_locks_for_a_platform_is_not_judged_by_those_of_another(
    agents: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["--stack", "agents", "--platform", "win-64"]) == 0
    (agents / "autogen-win-64.txt").unlink()
    assert program.main(["--stack", "agents", "--platform", "linux-64"]) == 0
    capsys.readouterr()
    assert program.main(["--stack", "agents", "--platform", "win-64"]) == 2
    assert "no lock for win-64" in "".join(capsys.readouterr())


def test_a_build_that_is_locked_on_one_platform_only_is_judged_there(tmp_path: Path) -> None:
    folder = shutil.copytree(STACKS["current"], tmp_path / "current")
    (folder / "torch-cu118-win-64.txt").unlink()
    texts = {platform: program.texts_of_stack(folder, platform) for platform in pins.PLATFORMS}
    assert [platform for platform, found in texts.items() if any("cu118" in one.name for one in found)] == ["linux-64"]
    assert len(texts["win-64"]) == len(texts["linux-64"]) - 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("stack.yml", b"a: b: c\n"),
        ("stack.yml", b"name: agents\n"),
        ("stack.yml", b"3\n"),
        ("autogen-linux-64.txt", b"\xff\x00"),
    ],
)
def test_a_stack_that_cannot_be_read_is_a_sentence(
    file: str, content: bytes, agents: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (agents / file).write_bytes(content)
    assert program.main(["--stack", "agents"]) == 2
    said = capsys.readouterr()
    assert (said.err.split(":")[0], said.out) == ("LW-PINS-006", "")
