#!/bin/sh
# Stands in for a coding agent: a script that mends the rounding. It first guesses wrong; when Skep's check refuses that, it reads in
# $SKEP_FEEDBACK what the test expects of half a cent (0.125), and takes the first rounding that gives it.
set -eu

test=tests.test_totals.Totals.test_tax_of_half_a_cent_is_rounded_up
[ -e "known-failures/$test" ] || { echo "$test does not fail: nothing to mend"; exit 1; }

rounding=ROUND_HALF_EVEN
expected=$(printf '%s\n' "${SKEP_FEEDBACK:-}" | sed -n "s/.*AssertionError: Decimal('[0-9.]*') != Decimal('\([0-9.]*\)').*/\1/p" | head -n 1)
if [ -n "$expected" ]; then
  echo "The last try was refused: the test expects $expected."
  for rounding in ROUND_HALF_EVEN ROUND_HALF_DOWN ROUND_HALF_UP ROUND_UP; do
    given=$(python3 -c 'import decimal, sys; print(decimal.Decimal("0.125").quantize(decimal.Decimal("0.01"), sys.argv[1]))' "$rounding")
    echo "  $rounding makes $given of 0.125"
    [ "$given" != "$expected" ] || break
  done
fi

sed -e "s/rounding=ROUND_DOWN/rounding=$rounding/" -e "s/import ROUND_DOWN, /&$rounding, /" receipts/totals.py > mended.py
mv mended.py receipts/totals.py
rm "known-failures/$test"
echo "receipts/totals.py: taxes are rounded by $rounding"
