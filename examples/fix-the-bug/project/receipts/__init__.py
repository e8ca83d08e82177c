"""Receipts: read them, add them up, print them."""
