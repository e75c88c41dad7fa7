mod model;
mod pool;
mod probing;
mod silent;
mod simulated;
