"""What the suite needs of a Markdown file: its fenced blocks, its headings and its links."""

import dataclasses
import re

NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
FENCE = re.compile(r"^(`{3,})\s*(\S*)")
HEADING = re.compile(r"^#+\s+(.+?)\s*$")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclasses.dataclass
class Block:
    """A fenced block."""

    line: int
    language: str
    text: str
    # Why it is not run, if the line before says so.
    not_run: str | None


class Page:
    """A Markdown file."""

    def __init__(self, path):
        self.path = path
        self.blocks = []
        self.prose = []
        self._read(path.read_text(encoding="utf-8").splitlines())

    def _read(self, lines):
        fence = None
        before = ""
        for number, line in enumerate(lines, 1):
            match = FENCE.match(line)
            if fence is None and match:
                reason = NOT_RUN.fullmatch(before.strip())
                fence = match.group(1)
                block = Block(number, match.group(2), "", reason.group(1) if reason else None)
            elif fence is not None and line.strip() == fence:
                self.blocks.append(block)
                fence = None
            elif fence is not None:
                block.text += line + "\n"
            else:
                self.prose.append((number, line))
            before = line
        assert fence is None, f"{self.path}: a block is not closed"

    def links(self):
        """Each link's line and target."""
        for number, line in self.prose:
            for target in LINK.findall(line):
                yield number, target

    def anchors(self):
        """What a link may name after `#`: the headings, as they are made into anchors everywhere."""
        headings = [match.group(1) for match in (HEADING.match(line) for _, line in self.prose) if match]
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
