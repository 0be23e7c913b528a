// Package torture runs three NATS servers, three nodes and two dispatchers, each a
// process, where the machine allows in a network of its own, has publishers and
// thousands of devices use them while one fault after the other strikes, and holds what
// they all saw against the contract. It is a test; docs/reliability.md tells how to run
// it and how to read what it says.
//
// Package history is what is written down meanwhile, and package verdict judges it.
package torture
