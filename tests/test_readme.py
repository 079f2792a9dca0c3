"""The README says what is so: its code runs, its commands exist, its tables are the code's."""

from __future__ import annotations

import ast
import asyncio
import builtins
import dataclasses
import functools
import importlib.metadata
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import click
import pytest
import redis.asyncio
import redis.exceptions
import yaml
from starlette.testclient import TestClient

import aioredis_kit
from aioredis_kit import CacheOptions, ConfigurationError, TimeoutCause, pytest_plugin, spellings
from aioredis_kit.cli.app import program
from aioredis_kit.config import ClientConfiguration
from aioredis_kit.events import EVENT_NAMES, Event
from aioredis_kit.integrations.measures import MEASURES
from aioredis_kit.integrations.opentelemetry import CONVENTIONAL, OpenTelemetry
from aioredis_kit.integrations.prometheus import metric_name
from aioredis_kit.integrations.starlette import UNAVAILABLE
from aioredis_kit.options import Options, TLSOptions
from aioredis_kit.testing.probe import ServerAddress
from tests.support.cli import invoke
from tests.support.readme import CONFTESTS, FRAGMENTS, PROGRAMS, README, ROOT, SNIPPETS, TEST_FILES, blocks

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
URL = "redis://localhost:6379"
HAS_ENTRY_POINT = any(each.name == "aioredis_kit" for each in importlib.metadata.entry_points(group="pytest11"))


COMMANDS = [
    command.strip()
    for line in "".join(each.code for each in SNIPPETS if each.language == "shell").splitlines()
    for command in line.split("&&")  # and nothing else of the shell's language
]
RUN_BY = {
    "pip install uv": (".ci/run", "pip install uv && uv run pytest"),
    "pip install arq": ("tests/server/test_newcomer.py", "test_what_caps_redis_py_can_be_installed"),
    'pip install "redis[hiredis]>=8.1,<9"': (
        "tests/server/test_newcomer.py",
        "test_what_caps_redis_py_can_be_installed",
    ),
    "uv run examples/quickstart.py": ("tests/server/test_quickstart.py", "QUICKSTART, *arguments"),
    "aioredis-kit ping redis://localhost:6379 --count 3": ("tests/server/test_cli.py", '"ping", redis_server.url'),
    "aioredis-kit doctor redis://localhost:6379": ("tests/server/test_cli_doctor.py", 'invoke("doctor"'),
    'aioredis-kit parse "cache.example.com:6380,password=s3cret-of-ada,ssl=true,abortConnect=true"': (
        "tests/unit/cli/test_parse.py",
        "cache.example.com:6380,password=s3cret-of-ada,ssl=true,abortConnect=true",
    ),
    "aioredis-kit bench redis://localhost:6379 --callers 100 --seconds 3": (
        "tests/server/test_cli.py",
        '"bench", redis_server.url',
    ),
    "uv run pytest": (".ci/run", "pip install uv && uv run pytest"),
    "uv run ruff check": (".ci/run", "uv run ruff check"),
    "uv run ruff format --check": (".ci/run", "uv run ruff format --check"),
    "uv run mypy": (".ci/run", "uv run mypy"),
    "uv run lint-imports": (".ci/run", "uv run lint-imports"),
    "uv run pytest --long": (".ci/run", "uv run pytest -q --long tests"),
    "uv run pytest --aioredis-kit-server=/usr/bin/redis-server": (".ci/run", "--aioredis-kit-server="),
    "AIOREDIS_KIT_FUZZ_EXAMPLES=200000 uv run pytest --long tests/unit/wire/test_fuzz.py": (
        ".ci/run",
        "tests/unit/wire/test_fuzz.py",
    ),
    "uv run --group bench pytest --long tests/chaos/test_peer_failures.py": (
        ".ci/run",
        "uv run --group bench pytest -q --long tests/chaos/test_peer_failures.py",
    ),
    "uv run --group bench python -m tests.benchmarks": (
        "tests/server/test_benchmarks_run.py",
        '"-m", "tests.benchmarks"',
    ),
    "uv run python -m tests.chaos --seeds 500": ("tests/chaos/test_seeds.py", "tests.chaos"),
    "uv run python -m tests.chaos --network --seeds 150 --seconds 1.5": ("tests/chaos/test_network.py", "tests.chaos"),
    "uv run python -m tests.chaos --soak 60": ("tests/chaos/test_soak.py", "tests.chaos"),
    'CACHE_URI="redis://localhost?command_timeout=1" uv run examples/fastapi_service.py': (
        "tests/server/test_service_examples.py",
        "fastapi_service.py",
    ),
    "JOBS_URI=redis://localhost uv run examples/worker.py": ("tests/server/test_worker_examples.py", "worker.py"),
    "REDIS_URL=redis://localhost uv run examples/arq_worker.py": (
        "tests/server/test_worker_examples.py",
        "arq_worker.py",
    ),
    "REDIS_URL=redis://localhost uv run taskiq worker examples.taskiq_worker:broker --workers 1": (
        "tests/server/test_worker_examples.py",
        "taskiq_worker:broker",
    ),
    "bash .ci/run": (".ci/run", "What CI runs"),
}
"""For each command: which file runs it, in sizes and against servers of its own, and words that show that it does."""


def table(heading: str) -> list[list[str]]:
    """Return the rows of the first table after a heading, without its head."""
    lines = re.split(rf"\n##+ {re.escape(heading)}\n", README, maxsplit=1)[1].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def run(*arguments: str | Path, cwd: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_kind_of_code_is_there():
    """The tests below don't pass for want of anything to test."""
    assert len(PROGRAMS) == 1
    assert len(TEST_FILES) == 1
    assert len(CONFTESTS) == 1
    assert len(FRAGMENTS) >= 4
    assert len(COMMANDS) >= 10
    assert README.count("```") == 2 * len(SNIPPETS)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.code.splitlines()[0])
def test_a_snippet_is_run_or_says_why_not(snippet):
    """One way or the other; the languages are those of the tests below."""
    assert snippet.language in {"python", "shell", "toml", "text"}
    if snippet.why_not_run is not None:
        assert len(snippet.why_not_run.split()) >= 4
    elif snippet.language == "shell":
        commands = [command.strip() for line in snippet.code.splitlines() for command in line.split("&&")]
        assert set(commands) <= RUN_BY.keys()


@pytest.mark.parametrize("command", RUN_BY)
def test_a_command_is_run(command):
    path, words = RUN_BY[command]
    assert command in COMMANDS
    assert words in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("code", PROGRAMS)
def test_a_program_runs(code, redis_url, tmp_path):
    assert URL in code
    assert run("-c", code.replace(URL, redis_url), cwd=tmp_path) == "Ada\n"


@pytest.mark.parametrize("code", TEST_FILES)
def test_a_test_file_passes(code, tmp_path):
    (tmp_path / "test_of_mine.py").write_text(code, encoding="utf-8")
    assert f"{code.count('def test_')} passed" in run_pytest(tmp_path)


def run_pytest(folder: Path) -> str:
    load = [] if HAS_ENTRY_POINT else ["-p", "aioredis_kit.pytest_plugin"]
    scope = "asyncio_default_fixture_loop_scope=function"  # pytest-asyncio warns where it is unset
    return run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", scope, *load, cwd=folder)


@pytest.mark.parametrize("code", CONFTESTS)
def test_a_conftest_does(code, redis_url, tmp_path):
    """Beside a plugin that is not here, whose fixture is put into its place; ``test_newcomer`` has pytest-redis itself."""
    address = ServerAddress.from_url(redis_url)
    others = f"""
import types


@pytest.fixture(scope="session")
def redis_service():
    return types.SimpleNamespace(host={address.host!r}, port={address.port})
"""
    (tmp_path / "conftest.py").write_text(code.replace("redis_proc", "redis_service") + others, encoding="utf-8")
    test = (
        TEST_FILES[0]
        + f"""

def test_it_is_that_server(redis_server):
    assert (redis_server.port, redis_server.started_here) == ({address.port}, False)
"""
    )
    (tmp_path / "test_of_mine.py").write_text(test, encoding="utf-8")
    assert f"{test.count('def test_')} passed" in run_pytest(tmp_path)


@pytest.mark.parametrize("code", FRAGMENTS)
async def test_a_fragment_runs(code, redis_url, redis_client, monkeypatch):
    """With a connected client named ``client``, ``await`` as in the asyncio REPL, and a platform that names a server."""
    monkeypatch.setenv("CACHE_URI", redis_url)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compiled = compile(code.replace(URL, redis_url), "README.md", "exec", flags=flags, dont_inherit=True)
    outcome = eval(compiled, {"client": redis_client})
    if inspect.isawaitable(outcome):
        await outcome
    assert await redis_client.ping()


def test_the_web_service_serves(redis_url, monkeypatch):
    monkeypatch.setenv("CACHE_URI", redis_url)
    (code,) = (code for code in FRAGMENTS if "FastAPI(" in code)
    service = {}
    exec(compile(code.replace(URL, redis_url), "README.md", "exec", dont_inherit=True), service)
    with TestClient(service["app"]) as http:
        assert http.get("/users/1").json() == {"name": None}


def test_the_two_commands_are_there():
    assert "pip install uv && uv run examples/quickstart.py\npip install uv && uv run pytest\n" in blocks("shell")
    assert PROJECT["tool"]["uv"]["default-groups"] == ["dev"]
    assert (
        "aioredis_kit[testing,uvloop,entra,starlette,fastapi,otel,prometheus,cli]"
        in PROJECT["dependency-groups"]["dev"]
    )
    assert PROJECT["tool"]["pytest"]["ini_options"]["testpaths"] == ["tests"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_can_be_given(command):
    """What it names is there: files, modules, tools, options, services, extras."""
    match shlex.split(command):
        case [setting, *rest] if re.fullmatch(r"AIOREDIS_KIT_[A-Z_]+=\w+", setting):
            test_a_command_can_be_given(shlex.join(rest))
        case ["uv", "run", "--group", group, *rest]:
            assert group in PROJECT["dependency-groups"]
            test_a_command_can_be_given(shlex.join(["uv", "run", *rest]))
        case ["uv", "run", "python", "-m", "trustme", *_]:
            assert any(line.startswith("trustme") for line in PROJECT["dependency-groups"]["dev"])
        case [variable, *rest] if re.match(r"[A-Z_]+=", variable):
            test_a_command_can_be_given(shlex.join(rest))
        case ["uv", "run", "python", "-m", module, *_]:
            assert (ROOT / module.replace(".", "/") / "__main__.py").is_file()
        case ["uv", "run", path, *_] if path.endswith(".py"):
            compile((ROOT / path).read_text(encoding="utf-8"), path, "exec")
        case ["uv", "run", "pytest", *arguments]:
            options = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
            assert all(option in pytest_help() for option in options)
        case ["uv", "run", tool, *_]:
            package = {"lint-imports": "import-linter"}.get(tool, tool)
            assert any(line.startswith(package) for line in PROJECT["dependency-groups"]["dev"])
        case ["aioredis-kit", name, *arguments]:
            assert PROJECT["project"]["scripts"] == {"aioredis-kit": "aioredis_kit.cli:main"}
            program.get_command(click.Context(program), name).make_context(name, arguments)
        case ["bash", path]:
            subprocess.run(["bash", "-n", ROOT / path], check=True)
        case ["docker", "compose", "up", *arguments]:
            services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
            assert {each for each in arguments if not each.startswith("--")} <= services.keys()
        case ["mkdir", "-p", folder]:
            assert f"{folder}/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
        case ["pip", "install", requirement]:
            check_requirement(requirement)
        case _:
            pytest.fail(f"nothing here knows how to check {command!r}")


@functools.cache
def pytest_help() -> str:
    return run("-m", "pytest", "--help", cwd=ROOT)


def check_requirement(requirement: str) -> None:
    if extras := re.fullmatch(r"\.\[(.*)\]", requirement):
        assert set(extras[1].split(",")) <= PROJECT["project"]["optional-dependencies"].keys()
    else:
        assert requirement in {"uv", ".", "arq", *PROJECT["project"]["dependencies"]}


def test_commands_in_the_text_can_be_given():
    for command in re.findall(r"`((?:pip|uv|docker|bash) [^`]+)`", README):
        test_a_command_can_be_given(command)


def test_the_override_is_our_own_requirement():
    (settings,) = (each for each in map(tomllib.loads, blocks("toml")) if "tool" in each)
    (override,) = settings["tool"]["uv"]["override-dependencies"]
    assert override in PROJECT["project"]["dependencies"]
    assert PROJECT["tool"]["uv"]["override-dependencies"] == [override]


def test_the_table_of_options_can_be_read():
    (settings,) = (each for each in map(tomllib.loads, blocks("toml")) if "tool" not in each)
    options = ClientConfiguration.from_mapping(settings).options
    assert (options.host, options.max_reply_bytes) == ("cache.example.com", None)


def test_the_explanation_is_what_the_code_before_it_prints(capsys):
    (code,) = (code for code in FRAGMENTS if "explain()" in code)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out in blocks("text")


def test_the_table_of_bench_is_what_bench_prints(redis_url):
    """But for the numbers."""
    (shown,) = (block for block in blocks("text") if "CPU µs/command" in block)
    printed = invoke("bench", redis_url, "--seconds", "0.1", "--callers", "2").stdout
    (head, *rows), (printed_head, *printed_rows) = (text.split("\n\n")[1].splitlines() for text in (shown, printed))
    assert head.split() == printed_head.split()
    assert [row.split()[0] for row in rows] == [row.split()[0] for row in printed_rows]


def test_the_variables_are_those_of_the_code():
    with pytest.raises(ConfigurationError) as caught:
        ClientConfiguration.from_env("cache", environ={})
    assert [name.strip("`") for name, _ in table("Configuration")] == re.findall(
        r"(\w+) \(not set\)", str(caught.value)
    )


def test_the_options_are_those_of_the_code():
    """Names, defaults, meanings, and other names."""
    aliases: dict[str, set[str]] = {}
    for name, meaning in spellings.REDIS_PY.items():
        if isinstance(meaning, spellings.Alias):
            aliases.setdefault(meaning.option, set()).add(name)
    shown = {}
    for name, default, meaning, others in table("Options"):
        shown[name.strip("`")] = ast.literal_eval(default.strip("`")), meaning, set(re.findall(r"`(\w+)`", others))
    assert shown == {
        field.name: (field.default, field.metadata["meaning"], aliases.get(field.name, set()))
        for field in dataclasses.fields(Options)
        if "kind" in field.metadata
    }


def test_the_causes_of_time_outs_are_those_of_the_code():
    assert {name.strip("`") for name, _ in table("Health and statistics")} == {each.name for each in TimeoutCause}


def test_the_metrics_are_those_of_the_code():
    def row(measure, *names):
        return [
            *(f"`{name}`" for name in names),
            ", ".join(f"`{label}`" for label in measure.labels) or "none",
            measure.meaning,
        ]

    shown = table("Metrics of the conventions")
    assert shown[: len(CONVENTIONAL)] == [row(each, each.name) for each in CONVENTIONAL]
    assert len(shown) == len(CONVENTIONAL) + 3
    assert table("Metrics of its own") == [row(each, each.name, metric_name(each)) for each in MEASURES]


def test_redis_pys_options_are_those_of_the_code():
    """What becomes of each parameter of redis-py's constructor that isn't an option of ours by the same name."""
    shown = {name.strip("`"): meaning for name, meaning in table("redis-py's options")}
    assert shown == {name: becomes(meaning) for name, meaning in spellings.REDIS_PY.items()}
    parameters = set(inspect.signature(redis.asyncio.Redis.__init__).parameters) - {"self"}
    assert parameters <= shown.keys() | {field.name for field in dataclasses.fields(Options)}


def becomes(meaning: spellings.Meaning) -> str:
    match meaning:
        case spellings.Alias(option=option):
            name = option.removeprefix("tls.")
            return f"`TLSOptions.{name}`" if option.startswith("tls.") else f"`{name}`"
        case spellings.Ignored(reason=reason):
            return f"accepted, without effect. {reason}"
        case spellings.Refused(reason=reason):
            return f"refused: it {reason}"
    return meaning.reason


def test_the_events_are_those_of_the_code():
    shown = {}
    for event, _ in table("Events"):
        name, arguments = re.fullmatch(r"`([\w-]+)(?:\((.*)\))?`", event).groups()
        shown[name] = len(arguments.split(",")) if arguments else 0
    kinds = {kind.name: kind for kind in Event.__subclasses__()}
    assert shown == {
        name: len(kind(*dataclasses.fields(kind)).arguments) for name, kind in kinds.items() if name in EVENT_NAMES
    }


def test_the_fixtures_are_those_of_the_plugin():
    shown = {name.strip("`") for name, _ in table("A first test")}
    assert shown == {name for name in vars(pytest_plugin) if name.startswith("redis_")}


def test_the_options_of_the_plugin_are_those_of_the_plugin():
    names = set(re.findall(r"`--(aioredis-kit-[\w-]+)`", README))
    assert names == set(re.findall(r"--(aioredis-kit-[\w-]+)", pytest_help()))


def test_the_examples_are_those_in_the_folder():
    shown = {
        re.fullmatch(r"\[`(.+)`\]\(examples/\1\)", name)[1]
        for names, _ in table("Examples")
        for name in names.split(", ")
    }
    assert shown == {path.name for path in (ROOT / "examples").glob("*.py")} - {"quickstart.py"}


def test_the_errors_that_are_answered_503_are_those_of_the_code():
    (text,) = re.findall(r"^- \*\*503\.\*\*(.*?)^- ", README, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(\w+Error)`", text)) == {each.__name__ for each in UNAVAILABLE}


def test_what_is_named_exists():
    """Errors, and options with their values, are spelled as in the code."""
    errors = set(re.findall(r"`(\w+Error)`", README))
    assert len(errors) >= 12
    homes = (aioredis_kit, redis.exceptions, builtins, asyncio)
    assert not {error for error in errors if not any(hasattr(home, error) for home in homes)}
    given = set(re.findall(r"`(\w+)=", README))
    assert len(given) >= 3
    options = {field.name for each in (Options, CacheOptions) for field in dataclasses.fields(each)}
    calls = (aioredis_kit.RedisClient.with_options, aioredis_kit.TokenCredentials, OpenTelemetry)
    parameters = {name for call in calls for name in inspect.signature(call).parameters}
    assert given <= options | parameters | spellings.REDIS_PY.keys()
    tls_options = re.search(r"a `TLSOptions` \((.*?)…\)", README, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", tls_options)) <= {field.name for field in dataclasses.fields(TLSOptions)}


def anchors_of(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_links_lead_somewhere():
    anchors = anchors_of(README)
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            assert (ROOT / path).is_file()
            assert not anchor or anchor in anchors_of((ROOT / path).read_text(encoding="utf-8"))


def test_there_is_room_for_the_benchmark():
    assert re.search(r"^<!-- benchmark -->\n.+\n<!-- /benchmark -->$", README, re.MULTILINE | re.DOTALL)


def test_the_changelog_knows_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(PROJECT['project']['version'])}\] - ", changelog, re.MULTILINE)
