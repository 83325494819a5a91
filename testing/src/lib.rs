//! Holds no code yet: its manifest gives programs and tests the same dependency features.
