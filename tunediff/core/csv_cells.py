"""CSV files that a spreadsheet opens."""

import re

# Where a spreadsheet sees a formula (https://owasp.org/www-community/attacks/CSV_Injection), but no number like -1.
FORMULA = re.compile(r"(?=[=+\-@\t\r\n＝＋－＠])(?![+-][\d.]+$)")


def harmless(text: str) -> str:
    """The text, after an apostrophe if a spreadsheet would take it for a formula."""
    return f"'{text}" if FORMULA.match(text) else text


def original(cell: str) -> str:
    """The text of which `harmless` made the cell."""
    return cell[1:] if cell.startswith("'") and harmless(cell[1:]) == cell else cell
