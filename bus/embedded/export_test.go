package embedded

// WatchEvery is how often the server is looked at.
const WatchEvery = watchEvery
