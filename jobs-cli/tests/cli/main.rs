//! What a person sees without any hub: help, mistakes, contexts. Exit status, stdout and stderr as they are.

mod context;
mod help;
mod mistakes;
mod support;
