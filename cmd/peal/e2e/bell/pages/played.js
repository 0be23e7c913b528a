// A client that a scene plays, where the service cannot be brought to what is to
// be seen. It tells what it is told to tell, and answers with what is here.

export function played() {
  const handlers = new Map(); // type → set
  return {
    name: 'played',
    status: { name: 'live' },
    unread: 0,
    inbox: [], // newest first: what a list answers
    lists: 0, // how often one was asked for
    on(type, handler) {
      if (!handlers.has(type)) handlers.set(type, new Set());
      handlers.get(type).add(handler);
      return () => handlers.get(type).delete(handler);
    },
    emit(type, more) {
      handlers.get(type)?.forEach((handler) => handler({ type, ...more }));
    },
    // counts tells the number of unread ones.
    counts(unread) {
      this.unread = unread;
      this.emit('unread', { unread });
    },
    // arrives tells of a notification, as one that has just come.
    arrives(id, edits) {
      const data = { ...notification(id), ...edits };
      this.inbox = [data, ...this.inbox];
      this.emit('notification', { data, cursor: id, fresh: true });
      this.counts(this.unread + 1);
    },
    async list({ limit, unread }) {
      this.lists++;
      return { notifications: structuredClone(this.inbox.filter(({ read }) => !unread || !read).slice(0, limit)), next: null };
    },
    async count() {
      return { truncated: false };
    },
    async read({ ids }) {
      return { changed: ids.length };
    },
    async preferences() {
      return { value: {}, etag: '' };
    },
  };
}

function notification(id) {
  return {
    id, type: 'mention', ticketId: '12345', ticketNumber: 'INC-2024-001234', title: `${id} VPN Connection Issue`, message: 'You were mentioned',
    priority: 'high', category: '', createdAt: new Date().toISOString(), read: false, reasons: [], actor: { id: 'user-abc', name: 'Jane Smith', avatar: null },
  };
}
