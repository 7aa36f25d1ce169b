//! Registry, threads, journal and store together, fed with what a child would say.

mod asking;
mod bench;
mod comparing;
mod history;
mod letting_go;
mod lists;
mod lives;
mod projects;
