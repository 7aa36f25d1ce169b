//! What is counted of requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use arc_swap::ArcSwap;
use cm_actors::metrics::{Histogram, HistogramView};

/// What stands for the route of a request that matches none.
const NO_ROUTE: &str = "none";

/// The label's values of status classes, in the order in which they are counted.
pub(crate) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// A route and a method. The route is the pattern that was registered, never a path: their number
/// is that of the table of routes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RouteKey {
    route: String,
    method: &'static str,
}

#[derive(Debug)]
struct RouteStats {
    classes: [AtomicU64; 5],
    took: Histogram,
}

/// Requests of one route at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteView {
    pub(crate) route: String,
    pub(crate) method: &'static str,
    /// Answers by [`CLASSES`].
    pub(crate) classes: [u64; 5],
    /// Microseconds until the answer began.
    pub(crate) took: HistogramView,
}

/// Requests, by route and kind of answer. Shared by all workers.
#[derive(Debug, Clone, Default)]
pub struct HttpStats {
    routes: Arc<ArcSwap<BTreeMap<RouteKey, Arc<RouteStats>>>>,
}

impl HttpStats {
    /// Counts a request that was answered.
    pub(crate) fn answered(
        &self,
        route: Option<String>,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let route = route.unwrap_or_else(|| NO_ROUTE.to_owned());
        let key = RouteKey { route, method: name(method) };
        let known = self.routes.load().get(&key).cloned();
        let stats = known.unwrap_or_else(|| self.add(key));
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = stats.classes.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        stats.took.took(took);
    }

    /// Adds a route that is asked for the first time; workers may do so at the same moment.
    fn add(&self, key: RouteKey) -> Arc<RouteStats> {
        let new =
            Arc::new(RouteStats { classes: Default::default(), took: Histogram::of_durations() });
        self.routes.rcu(|routes| {
            let mut routes = BTreeMap::clone(routes);
            routes.entry(key.clone()).or_insert_with(|| Arc::clone(&new));
            routes
        });
        self.routes.load().get(&key).map_or(new, Arc::clone)
    }

    /// Every route that was asked for.
    pub(crate) fn routes(&self) -> Vec<RouteView> {
        let routes = self.routes.load();
        let views = routes.iter().map(|(key, stats)| RouteView {
            route: key.route.clone(),
            method: key.method,
            classes: stats.classes.each_ref().map(|counter| counter.load(Ordering::Relaxed)),
            took: stats.took.read(),
        });
        views.collect()
    }
}

/// The label of a method. A client may invent any, so those that no route has are one.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_method_and_class() {
        let stats = HttpStats::default();
        let other = stats.clone();
        let took = Duration::from_millis(1);
        stats.answered(Some("/a/{id}".to_owned()), &Method::GET, StatusCode::OK, took);
        other.answered(Some("/a/{id}".to_owned()), &Method::GET, StatusCode::NOT_FOUND, took);
        let invented = Method::from_bytes(b"BREW").unwrap();
        stats.answered(None, &invented, StatusCode::NOT_FOUND, took);
        let routes = stats.routes();
        assert_eq!(routes.len(), 2);
        assert_eq!((routes[0].route.as_str(), routes[0].classes), ("/a/{id}", [0, 1, 0, 1, 0]));
        assert_eq!((routes[1].route.as_str(), routes[1].method), (NO_ROUTE, "other"));
        assert_eq!(routes[0].took.count, 2);
    }

    #[test]
    fn workers_that_meet_a_route_at_once_lose_nothing() {
        let stats = HttpStats::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..100 {
                        let route = Some(format!("/{}", number % 25));
                        stats.answered(route, &Method::GET, StatusCode::OK, Duration::ZERO);
                    }
                });
            }
        });
        let counted: u64 = stats.routes().iter().map(|route| route.classes[1]).sum();
        assert_eq!(counted, 400);
    }
}
