//! The engine from outside: the real binary, a real nats-server, and counterparts of what it talks to. `deploy/test` finds or fetches the server.

mod access;
mod api;
mod backtest;
mod calibrating;
mod cli;
mod core_nats;
mod counts;
mod crash;
mod delivery;
mod doctor;
mod drift;
mod engine;
mod exchanges;
mod index;
mod judge;
mod judging;
mod malformed;
mod nats;
mod prices;
mod publishing;
mod recordings;
mod reload;
mod replay;
mod serving;
mod slack;
mod standing;
