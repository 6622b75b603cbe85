//! The term: one unbroken leadership of one candidate, and how it is given back.

pub mod resignation;
