mod adaptive;
mod overload;
mod pending;
mod sharing;
