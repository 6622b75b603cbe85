//! Messages to the service manager.
