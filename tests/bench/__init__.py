"""The benchmark: `make bench`, `make soak`, `make lifecycles` (docs/benchmarks.md)."""
