"""HPACK beside the Python package `hpack`: stories that one writes and the other reads, in both directions.

A story is a connection: header lists that refer to what earlier ones put into the table, with table sizes that change on the
way. Stories are made from seeds; a failure names its seed. The other side is the example `hpack_tool`.
"""

import os
import pathlib
import random
import string
import subprocess
import sys

import hpack

STORIES = 400
BLOCKS = 30
DAMAGED = 20_000

# Names that mean something to a proxy, and some that mean nothing.
NAMES = [
    b":path", b":authority", b":method", b":status", b"content-type", b"te", b"grpc-timeout", b"traceparent",
    b"user-agent", b"x-request-id", b"authorization", b"cookie", b"grpc-status", b"a", b"x-long-name-that-nobody-knows",
]
# Values of the static table among them, so that indexed fields occur.
VALUES = [b"/", b"POST", b"GET", b"200", b"trailers", b"application/grpc", b"0", b"", b"gzip, deflate"]


class Tool:
    """The example, a line at a time."""

    def __init__(self, program):
        # Damaged blocks that both sides refused.
        self.refused = 0
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def close(self):
        self.process.stdin.close()
        if self.process.wait(timeout=60) != 0:
            raise AssertionError("hpack_tool failed")


def fields_of(answer):
    """The fields of an answer, as (mark, name, value)."""
    fields = []
    for field in answer.split()[1:]:
        mark = field[0] if field[0] in "*!" else ""
        name, value = field[len(mark):].split(":")
        fields.append((mark, bytes.fromhex(name), bytes.fromhex(value)))
    return fields


def random_text(rng, most):
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(most))
    return "".join(rng.choices(string.ascii_lowercase + string.digits + "-/. %", k=rng.randrange(most))).encode()


def random_list(rng, pool):
    """A header list: mostly fields that came before, some fresh ones. Sensitive fields are marked."""
    fields = []
    for _ in range(rng.randrange(1, 20)):
        if pool and rng.random() < 0.6:
            fields.append(rng.choice(pool))
            continue
        name = rng.choice(NAMES) if rng.random() < 0.7 else random_text(rng, 30) or b"n"
        value = rng.choice(VALUES) if rng.random() < 0.3 else random_text(rng, rng.choice([10, 60, 600, 5000]))
        field = (name, value, rng.random() < 0.1)
        pool.append(field)
        fields.append(field)
    return fields


def story_for_our_decoder(tool, rng):
    """What hpack writes we read."""
    size = rng.choice([0, 64, 200, 4096, 65536])
    tool.ask(f"decoder {size}")
    encoder = hpack.Encoder()
    encoder.header_table_size = size
    pool = []
    for block in range(BLOCKS):
        # One change at most between two blocks: of more, hpack would announce all and not, as section 4.2 says, two.
        if block > 0 and rng.random() < 0.1:
            size = rng.choice([0, 33, 100, 1000, 4096, 10_000])
            tool.ask(f"limit {size}")
            encoder.header_table_size = size
        fields = random_list(rng, pool)
        encoded = encoder.encode(fields, huffman=rng.random() < 0.5)
        answer = tool.ask(f"decode {encoded.hex()}")
        if not answer.startswith("ok"):
            raise AssertionError(f"block {block}: we say {answer} of {encoded.hex()}")
        got = fields_of(answer)
        # hpack refers to a sensitive field, too, if the same one got into the table as one that is not.
        wanted = [("*" if mark == "*" else "!" if sensitive else "", name, value)
                  for (mark, _, _), (name, value, sensitive) in zip(got, fields)]
        if got != wanted or len(got) != len(fields):
            differing = next((pair for pair in zip(wanted, got) if pair[0] != pair[1]), (len(fields), len(got)))
            raise AssertionError(f"block {block}: wrote and read {differing} in {encoded.hex()}")


def story_for_our_encoder(tool, rng):
    """What we write hpack reads."""
    size = rng.choice([0, 64, 200, 4096, 65536])
    tool.ask("encoder 4096")
    tool.ask(f"peer {size}")
    decoder = hpack.Decoder(max_header_list_size=1 << 24)
    decoder.max_allowed_table_size = size
    pool = []
    for block in range(BLOCKS):
        for _ in range(rng.choice([0, 0, 0, 0, 1, 2, 3])):
            # Several changes between two blocks: the smallest and the last must be announced.
            size = rng.choice([0, 33, 100, 1000, 4096, 10_000])
            tool.ask(f"peer {size}")
            decoder.max_allowed_table_size = size
        fields = random_list(rng, pool)
        marks = ["!" if sensitive else rng.choice(["", "*", "*"]) for _, _, sensitive in fields]
        words = [f"{mark}{name.hex()}:{value.hex()}" for mark, (name, value, _) in zip(marks, fields)]
        answer = tool.ask("encode " + " ".join(words))
        read = decoder.decode(bytes.fromhex(answer[3:]), raw=True)
        got = [(bytes(name), bytes(value)) for name, value in read]
        if got != [(name, value) for name, value, _ in fields]:
            raise AssertionError(f"block {block}: we wrote {answer} for {words}, hpack says {got}")
        for mark, (name, _, _), field in zip(marks, fields, read):
            secret = mark == "!" or name in (b"authorization", b"cookie")
            if secret and not isinstance(field, hpack.NeverIndexedHeaderTuple):
                raise AssertionError(f"block {block}: {name} may never be in a table, but {answer} lets it")


def damaged_blocks(tool, rng):
    """Damaged blocks: both refuse them, or both read the same."""
    for _ in range(DAMAGED // STORIES):
        encoded = bytearray(hpack.Encoder().encode(random_list(rng, []), huffman=rng.random() < 0.5)[:200])
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(encoded))
            encoded[at] = rng.choice([rng.randrange(256), encoded[at] ^ 1 << rng.randrange(8)])
        tool.ask("decoder 4096")
        answer = tool.ask(f"decode {encoded.hex()}")
        try:
            theirs = [(bytes(name), bytes(value)) for name, value in hpack.Decoder().decode(bytes(encoded), raw=True)]
        except hpack.HPACKError as error:
            theirs = repr(error)
        ours = [(name, value) for _, name, value in fields_of(answer)] if answer.startswith("ok") else answer
        both_refuse = isinstance(ours, str) and isinstance(theirs, str)
        if not both_refuse and ours != theirs:
            raise AssertionError(f"{encoded.hex()}: we say {ours}, hpack says {theirs}")
        tool.refused += both_refuse


def main():
    program = pathlib.Path(os.environ["EVENKEEL_BIN"]).parent / "examples" / "hpack_tool"
    tool = Tool(program)
    passed = failed = 0
    for story in [story_for_our_decoder, story_for_our_encoder, damaged_blocks]:
        for seed in range(STORIES):
            try:
                story(tool, random.Random(seed))
                passed += 1
            except (AssertionError, hpack.HPACKError) as error:
                failed += 1
                print(f"failed: {story.__name__}, seed {seed}: {error!r}")
        print(f"{story.__name__}: {STORIES} seeds", flush=True)
    tool.close()
    print(f"{tool.refused} of {DAMAGED} damaged blocks were refused by both, the others read alike")
    if not DAMAGED / 10 < tool.refused < DAMAGED * 9 / 10:
        failed += 1
        print("failed: the damage is too little or too much to tell anything")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
