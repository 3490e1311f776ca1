# One image, all commands: docker run sluice [serve | migrate | bootstrap | keys …]. Node runs the sources as they are,
# so there is nothing to build.
FROM node:24.21.0-bookworm-slim@sha256:2fe369e969550cde8e867afc3fe370b260140cab4a23d467074295b42163d553

WORKDIR /app
COPY package.json package-lock.json ./
# In one layer, so that it holds the dependencies and nothing of what fetched them. No install scripts: none of the
# production dependencies needs one. npm and yarn have no use at run time, but for an intruder.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
 && npm cache clean --force \
 && rm -rf package-lock.json /root/.npm /tmp/* /opt/yarn-* \
      /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack \
      /usr/local/bin/yarn /usr/local/bin/yarnpkg
COPY LICENSE ./
COPY db/privileges.sql db/privileges.sql
COPY db/migrations db/migrations
COPY src src
# Whatever the umask of the machine that cloned them: the user below only reads.
RUN chmod -R a+rX package.json LICENSE db src

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="A lightweight, durable ingestion API for PostgreSQL on Kubernetes" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="docker.io/library/node:24.21.0-bookworm-slim"

ENV NODE_ENV=production HOST=0.0.0.0 PORT=3000
EXPOSE 3000 9464
# The number, not the name: runAsNonRoot cannot look a name up.
USER 1000:1000
# Node itself is the first process and handles its signals; it starts no others that an init would have to reap.
# The flags of npm start. Left to itself, V8 lets garbage grow to several times of what is in use; and when objects of the
# first second lived long, it may take all like them for old ones ever after, and look through the whole heap several times a
# second (--trace-gc: Mark-Compact).
ENTRYPOINT ["node", "--max-old-space-size=384", "--max-semi-space-size=8", "--no-allocation-site-pretenuring", "/app/src/main.ts"]
CMD ["serve"]
