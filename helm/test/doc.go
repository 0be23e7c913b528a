// Package helm holds nothing but tests of the chart in ../peal, which helm renders and
// lints, and whose objects and configuration files are then looked at. It is a module of
// its own, so that the types of Kubernetes do not become what peal needs. make helm-check
// runs it.
package helm
