//! The core by itself: small stories, event by event.
