// Package doctor looks at everything that a service stands on, and says of each
// what was seen and what to do about it. It changes nothing, takes no port and no
// lock, and so works beside a running service.
package doctor
