//! The brain: endpoints, connectivity, and the policies that pick one for each call.
