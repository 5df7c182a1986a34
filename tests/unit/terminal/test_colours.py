"""The colours of levels and destinations."""

import re

from pylsyncd.terminal.colours import choose_palette

COLOURFUL = {"TERM": "xterm-256color"}


def test_an_empty_no_color_is_ignored() -> None:
    assert choose_palette({**COLOURFUL, "NO_COLOR": ""}).name_sequences


def test_each_destination_keeps_a_colour_of_its_own() -> None:
    first, second = choose_palette(COLOURFUL), choose_palette(COLOURFUL)
    names = [f"web{number}" for number in range(len(first.name_sequences))]
    assert len({first.for_name(name) for name in names}) == len(names)
    assert [first.for_name(name) for name in names] == [first.for_name(name) for name in names]
    # The first destination has the same colour in the next session, too.
    assert second.for_name(names[0]) == first.for_name(names[0])


def test_more_destinations_than_colours_share_colours() -> None:
    colours = choose_palette(COLOURFUL)
    assert all(colours.for_name(f"web{number}") in colours.name_sequences for number in range(50))


def luminance(number: int) -> float:
    """Return the relative luminance (WCAG 2.1) of one of the 256 colours of xterm."""
    if number >= 232:
        parts = [8 + 10 * (number - 232)] * 3
    else:
        steps = (0, 95, 135, 175, 215, 255)
        number -= 16
        parts = [steps[number // 36], steps[number // 6 % 6], steps[number % 6]]
    linear = [
        part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4
        for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_is_readable_on_white_and_on_black() -> None:
    colours = choose_palette(COLOURFUL)
    sequences = [*colours.name_sequences, *colours.level_sequences.values()]
    numbers = {int(found) for text in sequences for found in re.findall(r"38;5;(\d+)m", text)}
    assert len(numbers) > 8
    for number in numbers:
        light = luminance(number)
        assert (light + 0.05) / 0.05 >= 3, f"{number} on black"
        assert 1.05 / (light + 0.05) >= 3, f"{number} on white"
