//! The other ways out of an incident, from the wire: webhooks, Alertmanager, the bot token and `streamgauge slack test`, each against a counterpart on
//! loopback. The whole engine, with its outbox and a server, is `it/`.

mod alertmanager;
mod receiver;
mod telling;
mod token;
mod trying;
mod webhooks;
