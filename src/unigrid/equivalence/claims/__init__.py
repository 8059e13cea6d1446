"""Every equivalence as a claim: two sides, the cases that they are compared on, the table of all claims and its runner."""
