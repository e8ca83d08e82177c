#!/bin/sh
# Stands in for a coding agent: a script that knows one repair. It mends the numbers, if their test is among those that fail.
set -eu

test=tests.test_parser.Parser.test_reads_thousands
[ -e "known-failures/$test" ] || { echo "$test does not fail: nothing to mend"; exit 1; }
echo "$(tail -n 1 "known-failures/$test")"

sed 's/text.replace(",", ".")/text.replace(",", "")/' receipts/parser.py > mended.py
mv mended.py receipts/parser.py
rm "known-failures/$test"
echo "receipts/parser.py: commas are taken out of numbers"
