//! Dashboard, JSON, metrics and administration over HTTP.

pub mod shapes;
