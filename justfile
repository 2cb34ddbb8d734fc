# Thin wrappers: what they run can be run by hand.

# Lists the recipes.
default:
    @just --list

# Every tier of tests, or the named ones: `just test it sim`.
test *tiers:
    ./test {{ tiers }}

# Formatting and lints.
lint:
    cargo fmt --all --check
    cargo clippy --all-features --all-targets -- -D warnings
    cargo clippy --no-default-features --all-targets -- -D warnings

# The documentation, as docs.rs shows it.
docs *args:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features {{ args }}

# The benchmarks.
bench *args:
    cargo bench --all-features {{ args }}

# All that must hold before a change is merged.
ci:
    bash .ci/run
