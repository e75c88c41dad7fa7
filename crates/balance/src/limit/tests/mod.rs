mod adaptive;
mod overload;
mod pending;
