// Package bench loads a service as its clients do and says what came of it:
// how fast, at what cost in memory and processor, and whether every
// notification arrived, once and in order.
//
// It speaks HTTP over connections of its own making, one goroutine and a few
// kilobytes each, so that the client is not what is measured. Every post
// has a number; what it is due, who is told and in which place follow
// from the number alone, so an event that arrives can be judged without
// anything being looked up.
package bench
