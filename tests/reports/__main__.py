"""Write the page of odd input from the table."""

from tests.reports.table import PAGE, page

if __name__ == "__main__":
    PAGE.write_text(page())
