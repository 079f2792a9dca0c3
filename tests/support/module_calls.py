"""Calls of the methods of redis-py's module classes, to be made in this order on any client that has them."""

from __future__ import annotations

from pathlib import Path
from tempfile import gettempdir

from redis.commands.json.path import Path as JSONPath
from redis.commands.search.aggregation import AggregateRequest, Cursor, Desc
from redis.commands.search.field import NumericField, TagField, TextField
from redis.commands.search.index_definition import IndexDefinition
from redis.commands.search.query import NumericFilter, Query
from redis.commands.search.reducers import count as count_rows
from redis.commands.search.suggestion import Suggestion

_VALUE = {"a": 1, "b": [1, 2.5, "three", None, True], "c": {"d": "grüße", "e": 1.5}, "f": False}

JSON_CALLS = [
    lambda c: c.json().set("j", "$", _VALUE),
    lambda c: c.json().set("j", "$", {}, nx=True),
    lambda c: c.json().set("k", "$", {}, xx=True),
    lambda c: c.json().set("k", ".", [1, 2, 3]),
    lambda c: c.json().set("j", "$", 1, nx=True, xx=True),
    lambda c: c.json().set("j", "$", 1, fpha="FP8"),
    lambda c: c.json().get("j"),
    lambda c: c.json().get("j", "$"),
    lambda c: sorted_by_key(c.json().get("j", "$.a", "$.b")),
    lambda c: c.json().get("j", JSONPath(".c.d"), no_escape=True),
    lambda c: c.json().get("missing"),
    lambda c: c.json().mget(["j", "k", "missing"], "$"),
    lambda c: c.json().mset([("m", "$", 1), ("n", ".", {"x": "y"})]),
    lambda c: c.json().merge("n", "$", {"z": [1]}),
    lambda c: c.json().get("n"),
    lambda c: c.json().type("j"),
    lambda c: c.json().type("j", "$.b"),
    lambda c: c.json().type("j", ".a"),
    lambda c: c.json().type("missing"),
    lambda c: c.json().resp("j"),
    lambda c: c.json().resp("j", "$.c"),
    lambda c: c.json().resp("missing"),
    lambda c: c.json().objkeys("j"),
    lambda c: c.json().objkeys("j", "$.c"),
    lambda c: c.json().objlen("j"),
    lambda c: c.json().objlen("j", "$.c"),
    lambda c: c.json().numincrby("j", "$.a", 2),
    lambda c: c.json().numincrby("j", ".a", 2),
    lambda c: c.json().numincrby("j", "$.c.e", 0.5),
    lambda c: c.json().nummultby("j", "$.a", 2),
    lambda c: c.json().nummultby("j", ".a", 2),
    lambda c: c.json().numincrby("j", "$.b", 1),
    lambda c: c.json().arrappend("j", "$.b", 4, "five"),
    lambda c: c.json().arrappend("j", ".b", 6),
    lambda c: c.json().arrindex("j", "$.b", 2.5),
    lambda c: c.json().arrindex("j", ".b", "none"),
    lambda c: c.json().arrinsert("j", "$.b", 1, "x", "y"),
    lambda c: c.json().arrlen("j", "$.b"),
    lambda c: c.json().arrlen("j", ".b"),
    lambda c: c.json().arrlen("j", "$.a"),
    lambda c: c.json().arrpop("j", "$.b"),
    lambda c: c.json().arrpop("j", ".b", 0),
    lambda c: c.json().arrpop("missing", "$.b"),
    lambda c: c.json().arrtrim("j", "$.b", 1, 2),
    lambda c: c.json().strlen("j", "$.c.d"),
    lambda c: c.json().strlen("j", ".c.d"),
    lambda c: c.json().strappend("j", "!", "$.c.d"),
    lambda c: c.json().strappend("j", "!", ".c.d"),
    lambda c: c.json().toggle("j", "$.f"),
    lambda c: c.json().toggle("j", ".f"),
    lambda c: c.json().debug("MEMORY", "j"),
    lambda c: c.json().debug("NO-SUCH", "j"),
    lambda c: c.json().clear("j", "$.b"),
    lambda c: c.json().set_file("from-file", "$", json_files() / "one.json"),
    lambda c: c.json().set_file("from-file", "$", json_files() / "none.json"),
    lambda c: c.json().set_path("$", json_files()),
    lambda c: c.json().get("from-file"),
    lambda c: c.json().jsonget("j", "$.a"),
    lambda c: c.json().jsonmget(["j"], "$.a"),
    lambda c: c.json().jsonset("j", "$.a", 7),
    lambda c: c.json().delete("j", "$.a"),
    lambda c: c.json().forget("j", "$.c"),
    lambda c: c.json().delete("k"),
    lambda c: c.execute_command("SET", "text", "no JSON"),
    lambda c: c.json().get("text"),
    lambda c: c.json().set("text", "$.a", 1),
    lambda c: c.json().get("j", "$[broken"),
]


async def sorted_by_key(getting):
    """Wait for a mapping that the server has in no order."""
    return dict(sorted((await getting).items()))


def json_files():
    """Return a folder with JSON files."""
    folder = Path(gettempdir()) / "aioredis-kit-json"
    folder.mkdir(exist_ok=True)
    (folder / "one.json").write_text('{"a": [1, 2]}', encoding="utf-8")
    (folder / "broken.json").write_text("{", encoding="utf-8")
    return folder


BLOOM_CALLS = [
    lambda c: c.bf().create("bf", 0.01, 1000, expansion=2),
    lambda c: c.bf().create("bf", 0.01, 1000),
    lambda c: c.bf().reserve("bf3", 0.01, 1000, noScale=True),
    lambda c: c.bf().add("bf", "a"),
    lambda c: c.bf().madd("bf", "a", "b"),
    lambda c: c.bf().insert("bf1", ["a", "b"], capacity=100, error=0.01),
    lambda c: c.bf().exists("bf", "a"),
    lambda c: c.bf().mexists("bf", "a", "z"),
    lambda c: c.bf().card("bf"),
    lambda c: c.bf().info("bf"),
    lambda c: c.bf().info("missing"),
    lambda c: c.bf().scandump("bf", 0),
    lambda c: c.bf().loadchunk("bf2", 1, b"broken"),
    lambda c: c.cf().create("cf", 1000, bucket_size=2),
    lambda c: c.cf().reserve("cf3", 1000, expansion=1),
    lambda c: c.cf().add("cf", "a"),
    lambda c: c.cf().addnx("cf", "a"),
    lambda c: c.cf().insert("cf1", ["a", "b"], capacity=100),
    lambda c: c.cf().insertnx("cf1", ["a", "c"]),
    lambda c: c.cf().exists("cf", "a"),
    lambda c: c.cf().mexists("cf", "a", "z"),
    lambda c: c.cf().count("cf", "a"),
    lambda c: c.cf().info("cf"),
    lambda c: c.cf().scandump("cf", 0),
    lambda c: c.cf().loadchunk("cf2", 1, b"broken"),
    lambda c: c.cf().delete("cf", "a"),
    lambda c: c.cms().initbydim("cms", 1000, 5),
    lambda c: c.cms().initbyprob("cms1", 0.01, 0.01),
    lambda c: c.cms().initbydim("cms2", 1000, 5),
    lambda c: c.cms().incrby("cms", ["a", "b"], [1, 5]),
    lambda c: c.cms().query("cms", "a", "b", "z"),
    lambda c: c.cms().merge("cms2", 1, ["cms"], weights=[2]),
    lambda c: c.cms().merge("missing", 1, ["cms"]),
    lambda c: c.cms().info("cms2"),
    lambda c: c.topk().reserve("topk", 3, 10, 3, 0.9),
    lambda c: c.topk().add("topk", "a", "b", "c", "d"),
    lambda c: c.topk().incrby("topk", ["a", "b"], [3, 2]),
    lambda c: c.topk().query("topk", "a", "z"),
    lambda c: c.topk().count("topk", "a", "z"),
    lambda c: c.topk().list("topk"),
    lambda c: c.topk().list("topk", withcount=True),
    lambda c: c.topk().info("topk"),
    lambda c: c.tdigest().create("td", 100),
    lambda c: c.tdigest().create("td1"),
    lambda c: c.tdigest().add("td", [1, 2, 3, 4, 5]),
    lambda c: c.tdigest().min("td"),
    lambda c: c.tdigest().max("td"),
    lambda c: c.tdigest().min("td1"),
    lambda c: c.tdigest().quantile("td", 0.5, 0.99),
    lambda c: c.tdigest().cdf("td", 2, 9),
    lambda c: c.tdigest().rank("td", 2, 9),
    lambda c: c.tdigest().revrank("td", 2, 9),
    lambda c: c.tdigest().byrank("td", 1, 9),
    lambda c: c.tdigest().byrevrank("td", 1, 9),
    lambda c: c.tdigest().trimmed_mean("td", 0.1, 0.9),
    lambda c: c.tdigest().merge("td2", 2, "td", "td1"),
    lambda c: c.tdigest().info("td"),
    lambda c: c.tdigest().reset("td"),
    lambda c: c.tdigest().info("missing"),
]

_FIELDS = [TextField("title", sortable=True), TextField("body"), NumericField("year"), TagField("tags")]
_DOCUMENTS = {
    "doc:1": {"title": "hello world", "body": "lorem ipsum dolor", "year": 1999, "tags": "a,b"},
    "doc:2": {"title": "hello moon", "body": "dolor sit amet", "year": 2010, "tags": "b"},
    "doc:3": {"title": "goodbye", "body": "grüße", "year": 2020, "tags": "c"},
}
_ROWS = AggregateRequest("*").group_by("@tags", count_rows().alias("n")).sort_by(Desc("@n"), "@tags")

SEARCH_CALLS = [
    lambda c: c.ft("idx").create_index(_FIELDS, definition=IndexDefinition(prefix=["doc:"])),
    lambda c: c.ft("idx").create_index(_FIELDS),
    lambda c: c.ft("idx").alter_schema_add(TextField("more")),
    *(lambda c, name=name, fields=fields: c.hset(name, mapping=fields) for name, fields in _DOCUMENTS.items()),
    lambda c: c.ft("idx").search("hello"),
    lambda c: c.ft("idx").search(Query("hello").with_scores().sort_by("title")),
    lambda c: c.ft("idx").search(Query("*").no_content().paging(0, 2).sort_by("year")),
    lambda c: c.ft("idx").search(Query("@tags:{b}").return_fields("title", "year").sort_by("year")),
    lambda c: c.ft("idx").search(Query("*").add_filter(NumericFilter("year", 2000, 2015))),
    lambda c: c.ft("idx").search(Query("@year:[$low 3000]").sort_by("year").dialect(2), query_params={"low": 2000}),
    lambda c: c.ft("idx").search("@@@"),
    lambda c: c.ft("none").search("hello"),
    lambda c: c.ft("idx").aggregate(_ROWS),
    lambda c: c.ft("idx").aggregate(AggregateRequest("*").load("title").sort_by("@year").limit(0, 2)),
    lambda c: c.ft("idx").aggregate(Cursor(1)),
    lambda c: c.ft("idx").aggregate("no request"),
    lambda c: c.ft("idx").explain("hello @year:[1 2]"),
    lambda c: c.ft("idx").explain_cli("hello"),
    lambda c: c.ft("idx").spellcheck("helo", distance=2),
    lambda c: c.ft("idx").dict_add("words", "ada", "bob"),
    lambda c: c.ft("idx").dict_dump("words"),
    lambda c: c.ft("idx").dict_del("words", "ada"),
    lambda c: c.ft("idx").config_set("TIMEOUT", 500),
    lambda c: c.ft("idx").config_get("TIMEOUT"),
    lambda c: c.ft("idx").tagvals("tags"),
    lambda c: c.ft("idx").aliasadd("alias"),
    lambda c: c.ft("idx").aliasupdate("alias"),
    lambda c: c.ft("idx").aliaslist(),
    lambda c: c.ft("alias").search("goodbye"),
    lambda c: c.ft("idx").aliasdel("alias"),
    lambda c: c.ft("idx").sugadd("sug", Suggestion("hello", 1.0), Suggestion("help", 2.0, payload="x")),
    lambda c: c.ft("idx").suglen("sug"),
    lambda c: c.ft("idx").sugget("sug", "hel", with_scores=True, with_payloads=True),
    lambda c: c.ft("idx").sugget("sug", "none"),
    lambda c: c.ft("idx").sugdel("sug", "help"),
    lambda c: c.ft("idx").synupdate("group", False, "moon", "luna"),
    lambda c: c.ft("idx").load_document("doc:1"),
    lambda c: c.ft("idx").get("doc:1", "doc:none"),
    lambda c: c.ft("idx").add_document("doc:4", title="added"),
    lambda c: c.ft("idx").add_document_hash("doc:4"),
    lambda c: c.ft("idx").hybrid_search(None),
    lambda c: c.ft("idx").get_params_args({"a": 1}),
    lambda c: c.ft("idx").delete_document("doc:3"),
    lambda c: c.ft("idx").delete_document("doc:2", delete_actual_document=True),
    lambda c: c.ft("idx").dropindex(delete_documents=True),
    lambda c: c.ft("idx").dropindex(),
]

UNSTABLE_SEARCH_CALLS = [
    lambda c: c.ft("idx").create_index(_FIELDS, definition=IndexDefinition(prefix=["doc:"])),
    lambda c: c.ft("idx").info(),
    lambda c: c.ft("none").info(),
    lambda c: c.ft("idx").dropindex(),
]
"""Whose outcomes have the same shape."""

# No server here has these modules: what is sent, and the refusal, are the same.
REFUSED_CALLS = [
    lambda c: c.ts().create("t", retention_msecs=5, labels={"a": "b"}),
    lambda c: c.ts().alter("t", retention_msecs=5),
    lambda c: c.ts().add("t", 1, 2.5),
    lambda c: c.ts().madd([("t", 1, 2)]),
    lambda c: c.ts().incrby("t", 1),
    lambda c: c.ts().decrby("t", 1),
    lambda c: c.ts().delete("t", 0, 1),
    lambda c: c.ts().createrule("t", "u", "avg", 10),
    lambda c: c.ts().deleterule("t", "u"),
    lambda c: c.ts().range("t", "-", "+"),
    lambda c: c.ts().revrange("t", "-", "+"),
    lambda c: c.ts().read("t", 0),
    lambda c: c.ts().nrange(["t"], "-", "+"),
    lambda c: c.ts().nrevrange(["t"], "-", "+"),
    lambda c: c.ts().mrange("-", "+", ["a=b"]),
    lambda c: c.ts().mrevrange("-", "+", ["a=b"]),
    lambda c: c.ts().get("t"),
    lambda c: c.ts().mget(["a=b"]),
    lambda c: c.ts().info("t"),
    lambda c: c.ts().queryindex(["a=b"]),
    lambda c: c.ts().querylabels("a", ["a=b"]),
    lambda c: c.vset().vadd("v", [1.0, 2.0], "e"),
    lambda c: c.vset().vsim("v", [1.0, 2.0]),
    lambda c: c.vset().vdim("v"),
    lambda c: c.vset().vcard("v"),
    lambda c: c.vset().vrem("v", "e"),
    lambda c: c.vset().vemb("v", "e"),
    lambda c: c.vset().vlinks("v", "e"),
    lambda c: c.vset().vinfo("v"),
    lambda c: c.vset().vsetattr("v", "e", {"a": 1}),
    lambda c: c.vset().vgetattr("v", "e"),
    lambda c: c.vset().vrandmember("v"),
    lambda c: c.vset().vrange("v", "-", "+"),
]

NOT_COMPARED = {
    "redis-py's own does not await it, or not the right one: see the tests of what works here": (
        "batch_indexer pipeline profile syndump"
    ),
    "the client's own": "execute_command",
}
"""Methods of module classes that are not compared, and why."""

BROKEN_IN_PIPELINES = r"\.(aggregate|spellcheck|config_get|load_document)\("
"""What redis-py's search pipelines can't do."""
