mod adaptive;
mod static_weights;
