//! The command line: one verb a file. Arguments in, screens and JSON out; no decisions.
