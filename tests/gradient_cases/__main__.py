"""Print the table of docs/gradient-doctor.md."""

import sys

from gradient_cases.report import write_table

sys.stdout.write(write_table(int(sys.argv[1]) if len(sys.argv) > 1 else 0) + "\n")
