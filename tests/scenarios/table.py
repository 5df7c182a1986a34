"""The table of scenarios: what happens to a source, and the tree that must come of it."""

from rows_directories import DIRECTORIES
from rows_files import FILES
from rows_links import LINKS
from rows_many import MANY
from rows_names import NAMES
from rows_replacements import REPLACEMENTS
from support.scenario import Scenario

TABLE: tuple[Scenario, ...] = (
    *FILES,
    *LINKS,
    *DIRECTORIES,
    *REPLACEMENTS,
    *NAMES,
    *MANY,
)
