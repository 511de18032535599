//! Other tools' figures, reproduced exactly, so that their users can see what changes and why.

pub mod llm_viewer;
