# make demo    one coached call, from a fresh clone to the summary
# make test    every check there is; ends 0 only when all passed
#
# Both bring what they need first (scripts/setup). Set OUT=DIR for another folder than demo-out.

SHELL := /bin/bash
OUT ?= demo-out
# Where rustup puts cargo, which a shell opened before the set-up has not heard of.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: demo test

demo:
	@scripts/setup run
	@cargo build
	@target/debug/sotto demo --out $(OUT)

test:
	@scripts/setup test
	@scripts/test
