#!/usr/bin/env python3
"""Draws a terminal screen as SVG. The text comes from stdin, as `tmux capture-pane -e -p` prints it.

docs/pictures/live-view.svg was made in a folder with an empty runs/, with:

    tmux new-session -d -s view -x 120 -y 36
    tmux send-keys -t view 'resnet train --view --blocks 1,1,1,1 --width 16 --size 28 --stem cifar \\
      --batch-size 128 --epochs 8 --limit-batches 60 --validation 2000 --run-dir runs/tiny' Enter
    sleep 60   # until some epochs are over
    tmux capture-pane -e -p -t view | scripts/screen_picture.py > docs/pictures/live-view.svg

Braille patterns and lines are drawn as shapes, so that the picture does not depend on the fonts of a machine.
"""

import re
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT, FONT = 8, 17, 13
BACKGROUND, FOREGROUND = "#16191d", "#d8dce0"
# The bits of a braille pattern: (column, row) of each dot.
DOTS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]
# Which of the four arms left, right, up, down a line has, and how thick it is.
LINES = {
    "─": ("lr", 1), "━": ("lr", 3), "│": ("ud", 1), "┤": ("lud", 1), "└": ("ur", 1), "┬": ("lrd", 1),
}


def palette(number):
    """The colour with this number of the 256 colours of a terminal."""
    if number >= 232:
        return "#" + 3 * f"{8 + 10 * (number - 232):02x}"
    levels = [0, 95, 135, 175, 215, 255]
    number -= 16
    return "#" + "".join(f"{levels[number // size % 6]:02x}" for size in (36, 6, 1))


def cells(line):
    """The characters of a line, each with its colour and whether it is bold and dim."""
    style = {"colour": FOREGROUND, "bold": False, "dim": False}
    for code, character in re.findall(r"\x1b\[([\d;:]*)m|(.)", line):
        if character:
            yield character, dict(style)
            continue
        numbers = [int(number or 0) for number in re.split("[;:]", code)]
        while numbers:
            number = numbers.pop(0)
            if number == 0:
                style.update(colour=FOREGROUND, bold=False, dim=False)
            elif number == 1:
                style["bold"] = True
            elif number == 2:
                style["dim"] = True
            elif number == 22:
                style.update(bold=False, dim=False)
            elif number == 39:
                style["colour"] = FOREGROUND
            elif number == 38 and numbers.pop(0) == 2:
                style["colour"] = "#%02x%02x%02x" % tuple(numbers[:3])
                numbers = numbers[3:]
            elif number == 38:
                style["colour"] = palette(numbers.pop(0))


def shape(character, x, y):
    """The path of a character that is drawn as a shape; None for a character of text."""
    if "\u2800" <= character <= "\u28ff":
        bits = ord(character) - 0x2800
        dots = [dot for bit, dot in enumerate(DOTS) if bits >> bit & 1]
        return "".join(
            f"M{x + 1.2 + 4 * column:g} {y + 1.2 + HEIGHT / 4 * row:g}h2v2h-2z" for column, row in dots
        )
    if character not in LINES:
        return None
    arms, thick = LINES[character]
    left, top = x + (WIDTH - thick) / 2, y + (HEIGHT - thick) / 2
    bars = {
        "l": (x, top, left + thick - x, thick),
        "r": (left, top, x + WIDTH - left, thick),
        "u": (left, y, thick, top + thick - y),
        "d": (left, top, thick, y + HEIGHT - top),
    }
    return "".join("M{:g} {:g}h{:g}v{:g}h-{:g}z".format(*bars[arm][:4], bars[arm][2]) for arm in arms)


def picture(lines):
    columns = max(len(list(cells(line))) for line in lines)
    width, height = (columns + 2) * WIDTH, (len(lines) + 1) * HEIGHT
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{FONT}">'
        f'<rect width="{width}" height="{height}" rx="6" fill="{BACKGROUND}"/>'
    )
    for row, line in enumerate(lines):
        y = HEIGHT * row + HEIGHT / 2
        words, shapes, previous = [], {}, " "
        for column, (character, style) in enumerate(cells(line)):
            x = WIDTH * (column + 1)
            look = f'fill="{style["colour"]}"' + ' opacity="0.6"' * style["dim"]
            path = shape(character, x, y)
            if path is not None:
                shapes[look] = shapes.get(look, "") + path
            elif character != " ":
                look += ' font-weight="bold"' * style["bold"]
                # A word is one element, so that its letters keep together.
                if words and previous != " " and words[-1][1] == look:
                    words[-1][2] += character
                else:
                    words.append([x, look, character])
            previous = character if path is None else " "
        for look, path in shapes.items():
            yield f'<path {look} d="{path}"/>'
        for x, look, text in words:
            length = f' textLength="{len(text) * WIDTH}"' if len(text) > 1 else ""
            yield f'<text x="{x}" y="{y + 0.75 * HEIGHT:g}" {look}{length}>{escape(text)}</text>'
    yield "</svg>"


if __name__ == "__main__":
    print("\n".join(picture(sys.stdin.read().rstrip("\n").split("\n"))))
