"""The table of all scenarios."""

from scenarios.rows_directories import DIRECTORIES
from scenarios.rows_files import FILES
from scenarios.rows_links import LINKS
from scenarios.rows_many import MANY
from scenarios.rows_names import NAMES
from scenarios.rows_replacements import REPLACEMENTS
from support.scenario import Scenario

TABLE: tuple[Scenario, ...] = (
    *FILES,
    *LINKS,
    *DIRECTORIES,
    *REPLACEMENTS,
    *NAMES,
    *MANY,
)
