# One image for all commands: docker run sluice [serve | migrate | bootstrap | keys …]. Node.js runs the TypeScript sources
# directly, so nothing is built.
FROM node:24.21.0-bookworm-slim@sha256:2fe369e969550cde8e867afc3fe370b260140cab4a23d467074295b42163d553

WORKDIR /app
COPY package.json package-lock.json ./
# One layer, so that it contains the dependencies but not the files that were only needed to install them. No production
# dependency needs an install script. At run time, npm and yarn would only be useful to an intruder.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
 && npm cache clean --force \
 && rm -rf package-lock.json /root/.npm /tmp/* /opt/yarn-* \
      /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack \
      /usr/local/bin/yarn /usr/local/bin/yarnpkg
COPY LICENSE ./
COPY db/privileges.sql db/privileges.sql
COPY db/migrations db/migrations
COPY src src
# The user below must be able to read the files, even if they were cloned with a strict umask.
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
# A number, because Kubernetes cannot verify runAsNonRoot for a user name.
USER 1000:1000
# Node.js is process 1 and handles the signals. It starts no child processes, so no init is needed to reap them.
# The flags are those of npm start. By default, V8 lets garbage grow to several times the memory in use. If objects live long
# during the first second, V8 may from then on allocate objects of the same kind as old ones, and then collects the whole heap
# several times a second (--trace-gc shows Mark-Compact).
ENTRYPOINT ["node", "--max-old-space-size=384", "--max-semi-space-size=8", "--no-allocation-site-pretenuring", "/app/src/main.ts"]
CMD ["serve"]
